"""Molecules: targets and units, readers, checks."""
