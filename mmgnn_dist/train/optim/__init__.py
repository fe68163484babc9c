"""Optimisers, learning-rate schedule and averaged weights."""
