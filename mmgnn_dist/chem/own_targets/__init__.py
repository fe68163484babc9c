"""Targets of the user: which column is one, its kind and classes, other names and ranges of known ones."""
