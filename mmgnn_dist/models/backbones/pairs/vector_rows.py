"""Rows of a few channels as vector instructions inside a loop compiled by numba.

LLVM's own vectoriser leaves loops over 8 to 32 channels as they are: it unrolls them first, or asks at each
row whether two arrays overlap. Here a row, or a part of one, is one vector value. Loads come before stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

from llvmlite import ir
from numba import types

WIDEST = 32  # lanes of a vector value: four registers of AVX2, two of AVX-512


def lanes_of(channels: int) -> int:
    """Lanes of the vectors that a row is cut into: the largest power of two that divides it, at most 32."""
    return gcd(channels, WIDEST)


class VectorCode:
    """Writes the instructions of one numba intrinsic.

    Args:
        context: numba's context of the target.
        builder: llvmlite's builder.
        lanes: number of values of a vector.
    """

    def __init__(self, context: Any, builder: Any, lanes: int) -> None:
        self.context, self.builder = context, builder
        self.lanes = lanes
        self.vector = ir.VectorType(ir.FloatType(), lanes)

    def values(self, kind: types.Array, array: Any) -> Any:
        """Pointer to the first value of a contiguous float32 array."""
        return self.context.make_array(kind)(self.context, self.builder, array).data

    def after(self, place: Any, step: int, stride: Any = 1) -> Any:
        """The place `step` strides after another; a stride is a number or a value of the loop."""
        number = ir.IntType(64)
        stride = ir.Constant(number, stride) if isinstance(stride, int) else stride
        return self.builder.add(place, self.builder.mul(stride, ir.Constant(number, step)))

    def load(self, values: Any, place: Any) -> Any:
        """Vector of the values from a place on."""
        loaded = self.builder.load(self._row(values, place))
        loaded.align = 4
        return loaded

    def store(self, vector: Any, values: Any, place: Any) -> None:
        """Write a vector from a place on."""
        self.builder.store(vector, self._row(values, place)).align = 4

    def spread(self, values: Any, place: Any) -> Any:
        """Vector that has the one value of a place in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        number = ir.IntType(32)
        one = self.builder.insert_element(
            undefined, self.builder.load(self.builder.gep(values, [place])), ir.Constant(number, 0)
        )
        first = ir.Constant(ir.VectorType(number, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, undefined, first)

    def product(self, left: Any, right: Any, total: Any = None) -> Any:
        """The product of two vectors, added to `total` if there is one: one instruction where it exists."""
        product = self.builder.fmul(left, right, flags=("contract",))
        return product if total is None else self.builder.fadd(total, product, flags=("contract",))

    def dot(self, factors: Sequence[Any], vectors: Sequence[Any]) -> Any:
        """Sum of the products of factors and vectors, in their order."""
        total = None
        for factor, vector in zip(factors, vectors, strict=True):
            total = self.product(factor, vector, total)
        return total

    def _row(self, values: Any, place: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(values, [place]), self.vector.as_pointer())
