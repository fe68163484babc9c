"""Benchmarks of training, of the loader, and of checkpoints during training."""
