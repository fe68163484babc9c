"""Where runs are computed: Slurm profiles, submission, the supervisor of a rank, following what runs."""
