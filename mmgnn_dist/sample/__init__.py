"""Bundled sample of small molecules with GFN2-xTB labels and PubChem-like text (data only)."""
