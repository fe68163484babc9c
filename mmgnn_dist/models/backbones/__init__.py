"""The molecular graph networks: one file an architecture, one base class, one factory."""
