"""Slurm: profiles, batch scripts, submission by submitit, the supervisor of a job, and its status."""
