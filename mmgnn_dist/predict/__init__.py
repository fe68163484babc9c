"""Use of a trained model: predictions for molecules of a file, and the model as a folder of its own."""
