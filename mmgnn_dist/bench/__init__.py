"""Measurements side by side: the loader, checkpoints beside training."""
