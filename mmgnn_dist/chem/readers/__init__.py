"""Readers of molecules: the choice of a reader, the cutting of records, and one module for each format."""
