"""Ray inside a Slurm allocation: a cluster over its nodes, one of the nodes, a study's cells as tasks."""
