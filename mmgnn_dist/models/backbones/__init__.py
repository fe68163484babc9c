"""Molecular graph networks: one file per architecture, a base class and a factory."""
