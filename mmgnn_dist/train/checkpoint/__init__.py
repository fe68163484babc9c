"""Checkpoints: complete or absent, written beside training, resharded for other numbers of ranks."""
