"""Readers of molecules: which reader a source needs, how records are cut, and one file for each format."""
