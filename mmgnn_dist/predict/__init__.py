"""Use of a trained model: predictions for molecules of a file, and export as a separate folder."""
