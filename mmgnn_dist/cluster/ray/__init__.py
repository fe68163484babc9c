"""Ray inside a Slurm allocation: a cluster over its nodes, one node of it, the cells of a study as tasks."""
