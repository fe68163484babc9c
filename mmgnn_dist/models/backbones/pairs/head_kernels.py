"""Compiled loops that sum edge values at their receivers, once for each attention head, by numba on a CPU."""

from __future__ import annotations

import numpy as np
from numba import njit

from mmgnn_dist.models.backbones.pairs.pair_kernels import add_scaled

Array = np.ndarray


@njit(nogil=True, fastmath={"contract"})
def heads_forward(values: Array, weight: Array, receiver: Array, out: Array, start: int, end: int) -> None:
    """Add weight * values of all edges at their receivers, for some of the columns.

    Args:
        values: values of the edges, [E, D].
        weight: weight of each edge in each head, [E, heads].
        receiver: atom that each edge arrives at, [E].
        out: the sums, [N, heads, D], added to.
        start: first column.
        end: end of the columns.
    """
    for edge in range(len(receiver)):
        own = values[edge, start:end]
        for head in range(weight.shape[1]):
            add_scaled(out[receiver[edge], head, start:end], weight[edge, head], own)


@njit(nogil=True, fastmath={"contract", "reassoc"})
def heads_backward(
    values: Array,
    weight: Array,
    receiver: Array,
    slope: Array,
    of_values: Array,
    of_weight: Array,
    start: int,
    end: int,
) -> None:
    """Compute the gradients of `heads_forward` by the values, and add those by the weights.

    Args:
        values: as in `heads_forward`, as are the next two.
        weight: see there.
        receiver: see there.
        slope: gradient of the sums, [N, heads, D].
        of_values: gradient by the values, [E, D], written.
        of_weight: gradient by the weights, [E, heads], added to.
        start: first column.
        end: end of the columns.
    """
    for edge in range(len(receiver)):
        own, of_own = values[edge, start:end], of_values[edge, start:end]
        of_own[:] = 0.0
        for head in range(weight.shape[1]):
            at_receiver = slope[receiver[edge], head, start:end]
            factor, total = weight[edge, head], own.dtype.type(0)
            for k in range(len(own)):
                of_own[k] += factor * at_receiver[k]
                total += own[k] * at_receiver[k]
            of_weight[edge, head] += total
