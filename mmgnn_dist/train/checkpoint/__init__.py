"""Checkpoints: complete or absent, written during training, resharded for other numbers of ranks."""
