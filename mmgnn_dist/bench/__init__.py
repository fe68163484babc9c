"""Benchmarks of the loader and of checkpoints during training."""
