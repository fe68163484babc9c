"""Sweeps over recipe keys with Ray Tune and Optuna."""
