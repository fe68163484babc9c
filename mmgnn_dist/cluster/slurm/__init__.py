"""Slurm: profiles, batch scripts, submission by submitit, the supervisor of a rank, and job status."""
