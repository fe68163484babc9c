"""Radial functions on a grid: evaluated at K knots instead of P pairs, and interpolated.

A filter of a continuous convolution is a function of one number, the distance. A batch has many more pairs
than such a function has features, so its network is evaluated at equally spaced knots and every pair takes
the Lagrange polynomial through the six knots around its distance. The weights of the knots depend on the
positions alone: one sparse matrix [P, K], and its transpose for the gradient, serve all interactions of a
step. Both products are sums of a few weighted rows (`embedding_bag`), without atomic adds.

Tabulated networks and splines are common where forces are evaluated (DP Compress, arXiv 2107.02103; splines
of embedded-atom potentials); in training the table is made anew in every step, from the current weights.

The polynomial is not smooth at the knots, so functions whose gradient by the positions is needed, and those
in float64, are evaluated at the pairs themselves. With knots a `KNOTS_PER_WIDTH`-th of the width s of a
Gaussian apart, the error is at most 225/64/720 * 15 * (h / s)^6 = 3e-7 of the Gaussian's height; six
knots need a third of the knots of a cubic for it. Networks on top can be sharper: `stencil_error` measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

POINTS = 6  # knots of a pair
BELOW = 2  # those below its interval
KNOTS_PER_WIDTH = 8
WORTH = 2  # pairs for each knot from which on a table is quicker
TOLERANCE = 1e-5  # largest relative error of a table; rounding of float32 alone is 2e-6


class RadialGrid:
    """Equally spaced knots from just below 0 to just above the cutoff.

    Args:
        cutoff: cutoff in Å.
        width: width of the narrowest radial function in Å.
    """

    def __init__(self, cutoff: float, width: float) -> None:
        intervals = math.ceil(KNOTS_PER_WIDTH * cutoff / width)
        self.count = intervals + POINTS - 1
        self.spacing = cutoff / intervals

    def serves(self, distance: Tensor) -> bool:
        """Whether a table of these distances [P] is exact enough and saves work; see the module."""
        enough = len(distance) >= WORTH * self.count
        return enough and distance.dtype == torch.float32 and not distance.requires_grad

    def knots(self, like: Tensor) -> Tensor:
        """Distances of the knots in Å, [K]; some are below 0 and above the cutoff."""
        return (torch.arange(self.count, device=like.device, dtype=like.dtype) - BELOW) * self.spacing

    def middles(self, like: Tensor) -> Tensor:
        """Distances halfway between the knots of each interval in Å, [K - 5]."""
        return self.knots(like)[BELOW : BELOW - POINTS + 1] + 0.5 * self.spacing

    def stencil_error(self, function: Callable[[Tensor], Tensor], like: Tensor) -> float:
        """Largest error of the table of a function at its middles, relative to the largest value there.

        Args:
            function: distances [M] in Å -> values [M, C].
            like: a tensor of the type and device of the function.
        """
        with torch.no_grad():
            table, exact = function(self.knots(like)), function(self.middles(like))
            weights = _lagrange(like.new_full((1,), 0.5)).squeeze(0)
            found = sum(w * table[k : k + len(exact)] for k, w in enumerate(weights.tolist()))
            return float((found - exact).abs().max() / exact.abs().max())


def stencil(grid: RadialGrid, distance: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """First knot of each pair, int32 [P], and weights of its knots, [P, 6]; arguments as in `RadialTable`."""
    place = distance / grid.spacing
    first = place.floor().clamp_(0, grid.count - POINTS)
    return first.int(), _lagrange(place - first).mul_(factor.unsqueeze(-1))


class RadialTable:
    """The weights of the knots for each pair of a batch, and their transpose.

    Args:
        grid: the knots.
        distance: distances in Å below the cutoff, [P].
        factor: factor of each pair that all functions get, such as an envelope, [P].
    """

    def __init__(self, grid: RadialGrid, distance: Tensor, factor: Tensor) -> None:
        first, weight = stencil(grid, distance, factor)
        self.index = first.unsqueeze(-1) + torch.arange(POINTS, dtype=torch.int32, device=distance.device)
        self.weight = weight
        flat = self.index.flatten()
        order = _order(flat, grid.count)
        self.pair = torch.div(order, POINTS, rounding_mode="floor").int()
        self.pair_weight = weight.flatten().index_select(0, order)
        knots = torch.arange(grid.count, dtype=torch.int32, device=distance.device)
        # where each knot begins; unlike `bincount`, this does not make a GPU's host wait
        self.start = torch.searchsorted(flat.index_select(0, order), knots, out_int32=True)

    def __call__(self, values: Tensor) -> Tensor:
        """Interpolate values at the knots [K, C] to the pairs: [P, C], times the factor."""
        out: Tensor = _Interpolation.apply(values, self)
        return out


class _Interpolation(torch.autograd.Function):
    """Values at the knots -> values at the pairs; linear, so the gradient is the transposed product."""

    @staticmethod
    def forward(context: Any, values: Tensor, table: RadialTable) -> Tensor:
        context.table = table
        return embedding_bag(table.index, values, mode="sum", per_sample_weights=table.weight)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        table = context.table
        summed = embedding_bag(
            table.pair, gradient.contiguous(), table.start, mode="sum", per_sample_weights=table.pair_weight
        )
        return summed, None


def _order(index: Tensor, count: int) -> Tensor:
    """Stable order of integers below `count`, int64 [M]."""
    if index.device.type == "cpu" and count < 2**15:
        # numpy sorts 16 bits by digits, five times as fast
        return torch.from_numpy(np.argsort(index.short().numpy(), kind="stable"))
    return torch.argsort(index, stable=True)


def _lagrange(u: Tensor) -> Tensor:
    """Weights of the knots at -2 ... 3 for places u in [0, 1]: [P] -> [P, 6]."""
    nodes = range(-BELOW, POINTS - BELOW)
    apart = [u - node for node in nodes]
    before = [torch.ones_like(u)]  # products of the differences to all nodes before each one
    for difference in apart[:-1]:
        before.append(before[-1] * difference)
    weights: list[Tensor] = []
    after = torch.ones_like(u)
    for k in reversed(range(POINTS)):
        norm = math.prod(nodes[k] - node for node in nodes if node != nodes[k])
        weights.append(before[k] * after / norm)
        after = after * apart[k]
    return torch.stack(weights[::-1], -1)
