"""Fusions of atom vectors and text: a base class, the formulas and a factory."""
