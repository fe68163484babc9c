"""Backbones, text encoder, fusions, read-outs, and the model that joins them."""
