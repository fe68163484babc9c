"""Backbones, text encoder, fusion, read-outs, and the model that joins them."""
