"""The Python door: a trained model that predicts for SMILES, molecules of other packages, and files."""
