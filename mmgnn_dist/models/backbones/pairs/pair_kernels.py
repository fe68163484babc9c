"""Compiled loops over pairs for a CPU, by numba: filter, message and sum of a pair in one pass.

As tensor operations, each step of a message is a pass over [P, C] values, and sums at atoms are calls for
single rows. Here the rows of one pair stay in the first-level cache, and filters of pairs are never stored.
Loops are over single arrays, so that the compiler turns them into vector instructions; the order of additions
is fixed, so a result has the same bits every time.

They are compiled at their first use in a process, in some seconds. numba's cache on disk is not used: it
consists of pickles.
"""

from __future__ import annotations

import numpy as np
from numba import njit

Array = np.ndarray


@njit(nogil=True, fastmath={"contract"})
def _interpolate(table: Array, first: int, weight: Array, out: Array) -> None:
    """Weighted sum of six rows of a table from `first` on: [K, C] -> [C]."""
    a, b, c = table[first], table[first + 1], table[first + 2]
    for n in range(len(out)):
        out[n] = weight[0] * a[n] + weight[1] * b[n] + weight[2] * c[n]
    a, b, c = table[first + 3], table[first + 4], table[first + 5]
    for n in range(len(out)):
        out[n] += weight[3] * a[n] + weight[4] * b[n] + weight[5] * c[n]


@njit(nogil=True, fastmath={"contract"})
def add_product(out: Array, left: Array, right: Array) -> None:
    """Add left * right to `out`, all [C]."""
    for n in range(len(out)):
        out[n] += left[n] * right[n]


@njit(nogil=True, fastmath={"contract"})
def exchange_forward(
    source: Array, table: Array, first: Array, weight: Array, i: Array, j: Array, out: Array
) -> None:
    """Add filter * source_j at atom i and filter * source_i at atom j, for each pair.

    Args:
        source: what each atom sends, [N, C].
        table: filters at the knots, [K, C].
        first: first of the six knots of each pair, [P].
        weight: weights of its knots, [P, 6].
        i: first atom of each pair, [P].
        j: second atom of each pair, [P].
        out: sums at the atoms, [N, C].
    """
    filters = np.empty(source.shape[1], source.dtype)
    for p in range(len(first)):
        _interpolate(table, first[p], weight[p], filters)
        add_product(out[i[p]], filters, source[j[p]])
        add_product(out[j[p]], filters, source[i[p]])


@njit(nogil=True, fastmath={"contract"})
def exchange_backward(
    source: Array,
    table: Array,
    first: Array,
    weight: Array,
    i: Array,
    j: Array,
    gradient: Array,
    of_source: Array,
    of_table: Array,
) -> None:
    """Add the gradients of `exchange_forward` by source and table, for a gradient of its sums [N, C]."""
    filters, slope = np.empty(source.shape[1], source.dtype), np.empty(source.shape[1], source.dtype)
    for p in range(len(first)):
        at_first, at_second = gradient[i[p]], gradient[j[p]]
        _interpolate(table, first[p], weight[p], filters)
        add_product(of_source[j[p]], filters, at_first)
        add_product(of_source[i[p]], filters, at_second)
        slope[:] = 0.0
        add_product(slope, source[j[p]], at_first)
        add_product(slope, source[i[p]], at_second)
        for knot in range(weight.shape[1]):
            row, factor = of_table[first[p] + knot], weight[p, knot]
            for n in range(len(slope)):
                row[n] += factor * slope[n]


@njit(nogil=True, fastmath={"contract"})
def add_scaled(out: Array, factor: float, values: Array) -> None:
    """Add factor * values to `out`, both [C]."""
    for n in range(len(out)):
        out[n] += factor * values[n]


@njit(nogil=True, fastmath={"contract"})
def vectors_forward(
    context: Array,
    v: Array,
    weight: Array,
    unit: Array,
    i: Array,
    j: Array,
    scalars: Array,
    vectors: Array,
) -> None:
    """Add PaiNN's messages of each pair in both directions.

    Args:
        context: factors of each atom for scalars, directions and vectors, [N, 3, C].
        v: vectors of the atoms, [N, 3, C].
        weight: filter of each pair, [P, 3, C].
        unit: directions from i to j, [P, 3].
        i: first atom of each pair, [P].
        j: second atom of each pair, [P].
        scalars: sums of the scalars, [N, C].
        vectors: sums of the vectors, [N, 3, C].
    """
    along, of_vectors = np.empty(v.shape[2], v.dtype), np.empty(v.shape[2], v.dtype)
    for p in range(len(i)):
        for direction in range(2):
            to, sender = (i[p], j[p]) if direction == 0 else (j[p], i[p])
            add_product(scalars[to], context[sender, 0], weight[p, 0])
            along[:] = 0.0
            add_product(along, context[sender, 1], weight[p, 1])
            of_vectors[:] = 0.0
            add_product(of_vectors, context[sender, 2], weight[p, 2])
            for axis in range(3):
                add_scaled(vectors[to, axis], unit[p, axis] if direction == 0 else -unit[p, axis], along)
                add_product(vectors[to, axis], of_vectors, v[sender, axis])


@njit(nogil=True, fastmath={"contract"})
def vectors_backward(
    context: Array,
    v: Array,
    weight: Array,
    unit: Array,
    i: Array,
    j: Array,
    of_scalars: Array,
    of_vectors: Array,
    of_context: Array,
    of_v: Array,
    of_weight: Array,
) -> None:
    """Add the gradients of `vectors_forward` by context, v and weight, for gradients of its two sums."""
    width = v.shape[2]
    along, across, factor = np.empty(width, v.dtype), np.empty(width, v.dtype), np.empty(width, v.dtype)
    for p in range(len(i)):
        for direction in range(2):
            to, sender = (i[p], j[p]) if direction == 0 else (j[p], i[p])
            along[:], across[:], factor[:] = 0.0, 0.0, 0.0
            add_product(factor, context[sender, 2], weight[p, 2])
            for axis in range(3):
                slope = of_vectors[to, axis]
                add_scaled(along, unit[p, axis] if direction == 0 else -unit[p, axis], slope)
                add_product(across, v[sender, axis], slope)
                add_product(of_v[sender, axis], factor, slope)
            add_product(of_weight[p, 0], context[sender, 0], of_scalars[to])
            add_product(of_weight[p, 1], context[sender, 1], along)
            add_product(of_weight[p, 2], context[sender, 2], across)
            add_product(of_context[sender, 0], weight[p, 0], of_scalars[to])
            add_product(of_context[sender, 1], weight[p, 1], along)
            add_product(of_context[sender, 2], weight[p, 2], across)
