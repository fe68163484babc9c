"""Warm start: a run that begins with the weights of a trained model instead of random ones."""
