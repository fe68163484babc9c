"""Compiled loops over edges for the depth-wise tensor product of `equivariant.py` on a CPU, by numba.

As tensor operations the product is a batch of small matrix products, a multiplication for each path, and a
concatenation, each a pass over values that do not fit the cache. Here an edge is one pass. The loops are
compiled for the numbers of channels and components: with these as variables they take twice the time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit

Array = np.ndarray
Loop = Callable[..., None]


@cache
def product_forward(channels: int, components: int) -> Loop:
    """Return the loop that computes the paths from one degree a, for some edges.

    Args:
        channels: number of channels C.
        components: 2a + 1.
    """

    @njit(nogil=True, fastmath={"contract"})
    def forward(
        x: Array, matrix: Array, weight: Array, places: Array, out: tuple[Array, ...], start: int, end: int
    ) -> None:
        """Write the result.

        Args:
            x: features of degree a, [E, 2a + 1, C].
            matrix: matrices of the edges, [E, rows, 2a + 1].
            weight: weights [E, paths C], or [1, paths C] for all edges.
            places: of each path its degree c, first row of `matrix`, first channel of `out[c]`, [paths, 3].
            out: the result of each degree, [E, 2c + 1, ...], written.
            start: first edge.
            end: end of the edges.
        """
        values = np.empty(channels, x.dtype)
        for edge in range(start, end):
            own = edge if weight.shape[0] > 1 else 0
            for path in range(places.shape[0]):
                degree, row, first = places[path]
                result, scale = out[degree], path * channels
                for m in range(2 * degree + 1):
                    factor = matrix[edge, row + m, 0]
                    for k in range(channels):
                        values[k] = factor * x[edge, 0, k]
                    for n in range(1, components):
                        factor = matrix[edge, row + m, n]
                        for k in range(channels):
                            values[k] += factor * x[edge, n, k]
                    for k in range(channels):
                        result[edge, m, first + k] = values[k] * weight[own, scale + k]

    return forward


@cache
def product_backward(channels: int, components: int) -> Loop:
    """Return the loop that computes the gradients of `product_forward` by the features and the weights.

    Args:
        channels: number of channels C.
        components: 2a + 1.
    """

    @njit(nogil=True, fastmath={"contract"})
    def backward(
        x: Array,
        matrix: Array,
        weight: Array,
        places: Array,
        slope: tuple[Array, ...],
        of_x: Array,
        of_weight: Array,
        start: int,
        end: int,
    ) -> None:
        """Write the gradient by the features, and add that by the weights.

        Args:
            x: as in `forward`, as are the next three.
            matrix: see there.
            weight: see there.
            places: see there.
            slope: gradient of the result of each degree.
            of_x: gradient by the features, written.
            of_weight: gradient by the weights, with the shape of `weight`; added to.
            start: first edge.
            end: end of the edges.
        """
        mapped, scaled = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
        of_scale, of_values = np.empty(channels, x.dtype), np.empty((components, channels), x.dtype)
        for edge in range(start, end):
            own = edge if weight.shape[0] > 1 else 0
            of_values[:] = 0.0
            for path in range(places.shape[0]):
                degree, row, first = places[path]
                slopes, scale = slope[degree], path * channels
                of_scale[:] = 0.0
                for m in range(2 * degree + 1):
                    for k in range(channels):
                        scaled[k] = slopes[edge, m, first + k] * weight[own, scale + k]
                        mapped[k] = 0.0
                    for n in range(components):
                        factor = matrix[edge, row + m, n]
                        for k in range(channels):
                            mapped[k] += factor * x[edge, n, k]
                            of_values[n, k] += factor * scaled[k]
                    for k in range(channels):
                        of_scale[k] += mapped[k] * slopes[edge, m, first + k]
                for k in range(channels):
                    of_weight[own, scale + k] += of_scale[k]
            for n in range(components):
                for k in range(channels):
                    of_x[edge, n, k] = of_values[n, k]

    return backward
