"""Compiled loops over edges for the depth-wise tensor product of `equivariant.py` on a CPU, by numba.

As tensor operations the product is a batch of small matrix products, a multiplication for each path, and a
concatenation, each a pass over values that do not fit the cache. Here an edge is one pass, in vector
instructions; a loop is compiled for the numbers of channels and components.

The weights of edge e are row e modulo their number: all edges share one row, or the two directions of a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from mmgnn_dist.models.backbones.pairs.vector_rows import VectorCode, lanes_of

Array = np.ndarray
Loop = Callable[..., None]


@cache
def product_loop(channels: int, components: int, backward: bool) -> Loop:
    """Return the loop that computes the paths from one degree a for some edges, or their gradients.

    Args:
        channels: number of channels C.
        components: 2a + 1.
        backward: whether the loop computes the gradients.
    """
    lanes, write = lanes_of(channels), _gradients if backward else _values
    to_0, to_1, to_2 = (_path(write, channels, components, rows) for rows in (1, 3, 5))

    @njit(nogil=True)
    def loop(
        x: Array,
        by_x: Array,
        matrix: Array,
        weight: Array,
        by_weight: Array,
        column: int,
        places: Array,
        results: tuple[Array, ...],
        start: int,
        end: int,
    ) -> None:
        """Write the results, or add the gradients.

        Args:
            x: features of degree a, [E, 2a + 1, C].
            by_x: gradient by the features, added to in the backward pass only.
            matrix: matrices of the edges, [E, rows, 2a + 1].
            weight: weights, [E or fewer, ...]; see the head of this file.
            by_weight: gradient by the weights, added to in the backward pass only.
            column: first column of the weights of degree a.
            places: degree c of each path, its first row of `matrix`, its first channel of `results[c]`,
                [paths, 3].
            results: the result of each degree, or its gradient, [E, 2c + 1, ...].
            start: first row of the weights; first edge, where all share one row.
            end: end of the rows, or of the edges.
        """
        edges, own = len(x), len(weight)
        for turn in range(0, edges, own if own > 1 else edges):
            for edge in range(turn + start, turn + end):
                for path in range(places.shape[0]):
                    degree, row, first = places[path]
                    result = results[degree]
                    stride = result.shape[2]
                    m_at = (edge * matrix.shape[1] + row) * components
                    for k in range(0, channels, lanes):
                        x_at = edge * components * channels + k
                        w_at = edge % own * weight.shape[1] + column + path * channels + k
                        at = edge * result.shape[1] * stride + first + k
                        if degree == 0:
                            to_0(x, by_x, x_at, matrix, m_at, weight, by_weight, w_at, result, at, stride)
                        elif degree == 1:
                            to_1(x, by_x, x_at, matrix, m_at, weight, by_weight, w_at, result, at, stride)
                        else:
                            to_2(x, by_x, x_at, matrix, m_at, weight, by_weight, w_at, result, at, stride)

    return loop


def _path(write: Callable[..., None], channels: int, components: int, rows: int) -> Any:
    """One path of one edge, as a function that the loop calls.

    Args:
        write: writes its instructions, `_values` or `_gradients`.
        channels: number of channels C.
        components: 2a + 1.
        rows: 2c + 1.
    """
    place = types.intp

    @intrinsic
    def path(_, x, by_x, x_at, matrix, m_at, weight, by_weight, w_at, result, at, stride):  # type: ignore[no-untyped-def]
        signature = types.void(x, by_x, place, matrix, place, weight, by_weight, place, result, place, place)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = VectorCode(context, builder, lanes_of(channels))
            x, by_x, matrix, weight, by_weight, result = (
                code.values(signature.args[k], args[k]) for k in (0, 1, 3, 5, 6, 8)
            )
            x_ats = [code.after(args[2], n, channels) for n in range(components)]
            ats = [code.after(args[9], m, args[10]) for m in range(rows)]
            factors = [
                [code.spread(matrix, code.after(args[4], m * components + n)) for n in range(components)]
                for m in range(rows)
            ]
            write(code, (x, by_x, x_ats), factors, (weight, by_weight, args[7]), (result, ats))
            return context.get_dummy_value()

        return signature, generate

    return path


def _values(code: VectorCode, x: Any, factors: Any, weight: Any, result: Any) -> None:
    """Write result_m = weight * sum_n matrix_mn x_n."""
    inputs = [code.load(x[0], at) for at in x[2]]
    scale = code.load(weight[0], weight[2])
    for row, at in zip(factors, result[1], strict=True):
        code.store(code.product(code.dot(row, inputs), scale), result[0], at)


def _gradients(code: VectorCode, x: Any, factors: Any, weight: Any, result: Any) -> None:
    """With t_n = sum_m matrix_mn slope_m: add weight * t_n to that by x_n, sum_n x_n t_n to the weight's."""
    slopes = [code.load(result[0], at) for at in result[1]]
    scale, by_scale = code.load(weight[0], weight[2]), code.load(weight[1], weight[2])
    for column, at in zip(zip(*factors, strict=True), x[2], strict=True):
        total = code.dot(column, slopes)
        by_scale = code.product(total, code.load(x[0], at), by_scale)
        code.store(code.product(total, scale, code.load(x[1], at)), x[1], at)
    code.store(by_scale, weight[1], weight[2])
