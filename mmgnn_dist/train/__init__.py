"""Training by DeepSpeed: loop, checkpoints, metrics, journal, results."""
