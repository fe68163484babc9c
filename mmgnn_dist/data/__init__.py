"""Shard sets: preparation by Ray Data, tokens, splits, and the loader that feeds training."""
