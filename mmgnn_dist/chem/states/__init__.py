"""Charge and multiplicity of molecules: what sources state of them, and what follows."""
