"""Use of an exported model within training: predictions, and what it was trained on."""
