"""A trained model as a calculator of ASE: energy, forces by automatic differentiation, dipole moment."""

from __future__ import annotations

from mmgnn_dist.ase.calculator import Calculator

__all__ = ["Calculator"]
