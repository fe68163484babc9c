"""mmgnn_dist: train models that read a molecule twice, as a 3D graph and as text."""

__version__ = "0.1.0"
