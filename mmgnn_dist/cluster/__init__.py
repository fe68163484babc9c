"""Running on clusters: Slurm profiles, submission, the supervisor of a rank, job status, Ray, the doctor."""
