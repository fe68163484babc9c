"""Compiled loops over the chains of two edges k -> j -> i for a CPU, by numba: all of an atom j in one pass.

As tensor operations the densities of `angular_density.py` are passes over [L, N n, H] values, with n
neighbours at most. Here what one atom j needs stays in the cache, and nothing of that size is stored. The
order of additions is fixed, so a result has the same bits every time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mmgnn_dist.models.backbones.pairs.pair_kernels import add_product, add_scaled

Array = np.ndarray


@njit(nogil=True, fastmath={"contract"})
def _mix(radial: Array, weights: Array, out: Array) -> None:
    """Radial functions of an edge [L, R] times weights [L, R, H] -> its filters of each order [L, H]."""
    for order in range(out.shape[0]):
        row = out[order]
        row[:] = 0.0
        for k in range(radial.shape[1]):
            add_scaled(row, radial[order, k], weights[order, k])


@njit(nogil=True, fastmath={"contract"})
def chains_forward(
    first: Array, back: Array, harmonics: Array, radial: Array, sent: Array, weights: Array, out: Array
) -> None:
    """Sum over the chains k -> j -> i of each edge j -> i, for all edges k -> j of some atoms j.

    Args:
        first: place of the first edge of each atom j, and the end of those of the last one, [atoms + 1].
        back: the edge j -> i of each edge i -> j, [E].
        harmonics: Y_lm of the direction from j to k of each edge k -> j, [E, L^2].
        radial: radial functions of each edge, [E, L, R].
        sent: what each edge sends, [E, H].
        weights: weights of the radial functions, [L, R, H].
        out: the sums at the edges j -> i, [E, H].
    """
    orders, channels = weights.shape[0], weights.shape[2]
    density = np.empty((harmonics.shape[1], channels), sent.dtype)
    filters = np.empty((orders, channels), sent.dtype)
    for atom in range(len(first) - 1):
        start, end = first[atom], first[atom + 1]
        density[:] = 0.0
        for edge in range(start, end):
            _mix(radial[edge], weights, filters)
            own = out[back[edge]]
            own[:] = 0.0
            sign = 1.0
            for order in range(orders):
                heard = filters[order]
                for n in range(channels):
                    heard[n] *= sent[edge, n]
                add_scaled(own, -sign, heard)  # the chain that ends where it began
                for m in range(order * order, (order + 1) * (order + 1)):
                    add_scaled(density[m], harmonics[edge, m], heard)
                sign = -sign
        for edge in range(start, end):
            total = out[back[edge]]
            sign = 1.0
            for order in range(orders):
                for m in range(order * order, (order + 1) * (order + 1)):
                    add_scaled(total, sign * harmonics[edge, m], density[m])
                sign = -sign


@njit(nogil=True, fastmath={"contract"})
def chains_backward(
    first: Array,
    back: Array,
    harmonics: Array,
    radial: Array,
    sent: Array,
    weights: Array,
    slope: Array,
    of_sent: Array,
    of_weights: Array,
) -> None:
    """Compute the gradients of `chains_forward` by what is sent, and add those by the weights.

    Args:
        first: as in `chains_forward`, as are the next five.
        back: see there.
        harmonics: see there.
        radial: see there.
        sent: see there.
        weights: see there.
        slope: gradient of the sums, [E, H].
        of_sent: gradient by what each edge sends, [E, H], written.
        of_weights: gradient by the weights, [L, R, H], added to.
    """
    orders, channels = weights.shape[0], weights.shape[2]
    density = np.empty((harmonics.shape[1], channels), sent.dtype)
    filters = np.empty((orders, channels), sent.dtype)
    heard = np.empty(channels, sent.dtype)
    for atom in range(len(first) - 1):
        start, end = first[atom], first[atom + 1]
        density[:] = 0.0
        for edge in range(start, end):
            at_edge = slope[back[edge]]
            sign = 1.0
            for order in range(orders):
                for m in range(order * order, (order + 1) * (order + 1)):
                    add_scaled(density[m], sign * harmonics[edge, m], at_edge)
                sign = -sign
        for edge in range(start, end):
            _mix(radial[edge], weights, filters)
            at_edge, own = slope[back[edge]], of_sent[edge]
            own[:] = 0.0
            sign = 1.0
            for order in range(orders):
                heard[:] = 0.0
                add_scaled(heard, -sign, at_edge)
                for m in range(order * order, (order + 1) * (order + 1)):
                    add_scaled(heard, harmonics[edge, m], density[m])
                add_product(own, filters[order], heard)
                for n in range(channels):
                    heard[n] *= sent[edge, n]
                for k in range(radial.shape[2]):
                    add_scaled(of_weights[order, k], radial[edge, order, k], heard)
                sign = -sign
