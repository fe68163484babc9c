"""Messages along pairs in both directions, in pieces that stay in the cache of a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 2**17  # values of a piece on a CPU: half a megabyte in float32, as large as a second-level cache


def exchange(source: Tensor, weight: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Sum source_j * weight_ij at atom i and source_i * weight_ij at atom j over all pairs.

    Args:
        source: what each atom sends, [N, C].
        weight: factor of each pair, the same in both directions, [P, C].
        i: first atom of each pair, int64 [P].
        j: second atom of each pair, int64 [P].

    Returns:
        The sums at the atoms, [N, C].
    """
    out: Tensor = _Exchange.apply(source, weight, i, j)
    return out


class _Exchange(torch.autograd.Function):
    """The sums and their gradients; only the inputs are kept for the backward pass."""

    @staticmethod
    def forward(context: Any, source: Tensor, weight: Tensor, i: Tensor, j: Tensor) -> Tensor:
        context.save_for_backward(source, weight, i, j)
        out = torch.zeros_like(source)
        for to, sender, factor in pieces(i, j, weight):
            out.index_add_(0, to, source.index_select(0, sender).mul_(factor))
            out.index_add_(0, sender, source.index_select(0, to).mul_(factor))
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        source, weight, i, j = context.saved_tensors
        of_source, of_weight = torch.zeros_like(source), torch.empty_like(weight)
        for to, sender, factor, part in pieces(i, j, weight, of_weight):
            at_first, at_second = gradient.index_select(0, to), gradient.index_select(0, sender)
            torch.mul(source.index_select(0, sender), at_first, out=part)
            part.addcmul_(source.index_select(0, to), at_second)
            of_source.index_add_(0, sender, at_first.mul_(factor))
            of_source.index_add_(0, to, at_second.mul_(factor))
        return of_source, of_weight, None, None


def pieces(i: Tensor, j: Tensor, weight: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut pairs into pieces of about `PIECE` weights; one piece on a GPU.

    Args:
        i: first atom of each pair, int64 [P].
        j: second atom of each pair, int64 [P].
        weight: factors of each pair, [P, C].
        others: more tensors with a row for each pair.

    Yields:
        The rows of each tensor that belong to a piece, in the order of the arguments.
    """
    size = PIECE // weight.shape[1] if weight.device.type == "cpu" else len(weight)
    columns = (column.split(max(1, size)) for column in (i, j, weight, *others))
    yield from zip(*columns, strict=True)
