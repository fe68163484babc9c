"""DimeNet's angular sums as published, over a list of triplets: what the densities have to equal."""

from __future__ import annotations

import torch
from torch import Tensor


def legendre(orders: int, x: Tensor) -> Tensor:
    """Legendre polynomials P_0 ... P_{orders - 1} at x [T]: [T, orders]."""
    values = [torch.ones_like(x), x]
    for order in range(1, orders - 1):
        values.append(((2 * order + 1) * x * values[order] - order * values[order - 1]) / (order + 1))
    return torch.stack(values[:orders], -1)


def cosines(unit: Tensor, kj: Tensor, ji: Tensor) -> Tensor:
    """Cosine of the angle between the two edges of each triplet: unit vectors [E, 3] -> [T]."""
    return (unit.index_select(0, kj) * unit.index_select(0, ji)).sum(-1)


def spherical_basis(radial: Tensor, cosine: Tensor, kj: Tensor) -> Tensor:
    """The spherical basis of every triplet from radial functions [E, L, R]: [T, L * R], l the slow index."""
    angular = legendre(radial.shape[1], cosine)
    return (radial.index_select(0, kj) * angular.unsqueeze(-1)).flatten(1)
