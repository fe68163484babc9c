"""PaiNN's messages of scalars and vectors along pairs.

On a CPU with numba they are one loop over pairs (`pair_kernels.py`); elsewhere, and where the gradient with
respect to positions is needed, tensor operations in pieces that stay in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgnn_dist.models.backbones.pairs.pair_loop import as_array, looped, pair_parts, run_parts
from mmgnn_dist.models.backbones.pairs.pair_messages import pieces
from mmgnn_dist.models.graph import Graph


def exchange_vectors(
    context: Tensor, v: Tensor, weight: Tensor, unit: Tensor, i: Tensor, j: Tensor, graph: Graph
) -> tuple[Tensor, Tensor]:
    """Sum PaiNN's messages along all pairs in both directions.

    Args:
        context: factors of each atom for scalars, directions and vectors, [N, 3 H].
        v: vectors of the atoms, [N, 3, H].
        weight: filter of each pair, the same in both directions, [P, 3 H].
        unit: directions from i to j, [P, 3, 1].
        i: first atom of each pair, int64 [P].
        j: second atom of each pair, int64 [P].
        graph: the batch.

    Returns:
        Sums of the scalars [N, H] and of the vectors [N, 3, H].
    """
    out: tuple[Tensor, Tensor]
    if looped(v, len(i)) and not unit.requires_grad:
        out = _VectorLoop.apply(context, v, weight, unit, i, j, pair_parts(graph, i))
    else:
        out = _ExchangeVectors.apply(context, v, weight, unit, i, j)
    return out


class _VectorLoop(torch.autograd.Function):
    """The sums and their gradients by compiled loops; only the inputs are kept for the backward pass."""

    @staticmethod
    def forward(
        save: Any,
        context: Tensor,
        v: Tensor,
        weight: Tensor,
        unit: Tensor,
        i: Tensor,
        j: Tensor,
        parts: list[slice],
    ) -> tuple[Tensor, Tensor]:
        from mmgnn_dist.models.backbones.pairs.pair_kernels import vectors_forward

        save.save_for_backward(context, v, weight, unit, i, j)
        save.parts = parts
        contiguous = torch.contiguous_format
        scalars, vectors = v.new_zeros(len(v), v.shape[2]), torch.zeros_like(v, memory_format=contiguous)
        atoms, pairs = _arrays(context, v, weight, unit, i, j)
        sums = as_array(scalars), as_array(vectors)

        def run(_: int, part: slice) -> None:
            vectors_forward(*atoms, *(column[part] for column in pairs), *sums)

        run_parts(parts, run)
        return scalars, vectors

    @staticmethod
    @once_differentiable
    def backward(save: Any, scalars: Tensor, vectors: Tensor) -> tuple[Tensor | None, ...]:
        from mmgnn_dist.models.backbones.pairs.pair_kernels import vectors_backward

        context, v, weight, *_ = save.saved_tensors
        contiguous = torch.contiguous_format
        of = [torch.zeros_like(tensor, memory_format=contiguous) for tensor in (context, v, weight)]
        atoms, pairs = _arrays(*save.saved_tensors)
        slopes = as_array(scalars), as_array(vectors)
        of_context, of_v, of_weight = as_array(of[0]).reshape(_shape(v)), as_array(of[1]), as_array(of[2])
        of_weight = of_weight.reshape(-1, *of_v.shape[1:])

        def run(_: int, part: slice) -> None:
            columns = (column[part] for column in pairs)
            vectors_backward(*atoms, *columns, *slopes, of_context, of_v, of_weight[part])

        run_parts(save.parts, run)
        return (*of, None, None, None, None)


def _shape(v: Tensor) -> tuple[int, ...]:
    return (-1, *v.shape[1:])


def _arrays(
    context: Tensor, v: Tensor, weight: Tensor, unit: Tensor, i: Tensor, j: Tensor
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Arrays of the atoms (context and weights with the three kinds as an axis), and of the pairs."""
    atoms = as_array(context).reshape(_shape(v)), as_array(v)
    pairs = as_array(weight).reshape(_shape(v)), as_array(unit).reshape(-1, 3), i.numpy(), j.numpy()
    return atoms, pairs


class _ExchangeVectors(torch.autograd.Function):
    """The sums and their gradients; only the inputs are kept for the backward pass."""

    @staticmethod
    def forward(
        save: Any, context: Tensor, v: Tensor, weight: Tensor, unit: Tensor, i: Tensor, j: Tensor
    ) -> tuple[Tensor, Tensor]:
        save.save_for_backward(context, v, weight, unit, i, j)
        scalars, vectors = torch.zeros_like(v[:, 0]), torch.zeros_like(v)
        for first, second, factor, along in pieces(i, j, weight, unit):
            for to, sender, sign in ((first, second, 1), (second, first, -1)):
                sent = context.index_select(0, sender).mul_(factor)
                of_scalars, of_unit, of_vectors = sent.unsqueeze(1).chunk(3, -1)
                heard = v.index_select(0, sender).mul_(of_vectors).addcmul_(of_unit, along, value=sign)
                scalars.index_add_(0, to, of_scalars.squeeze(1))
                vectors.index_add_(0, to, heard)
        return scalars, vectors

    @staticmethod
    @once_differentiable
    def backward(save: Any, scalars: Tensor, vectors: Tensor) -> tuple[Tensor | None, ...]:
        context, v, weight, unit, i, j = save.saved_tensors
        of_context, of_v = torch.zeros_like(context), torch.zeros_like(v)
        of_weight = torch.empty_like(weight)
        of_unit = torch.zeros_like(unit) if save.needs_input_grad[3] else None
        parts = [of_weight] if of_unit is None else [of_weight, of_unit]
        for first, second, factor, along, part, *unit_part in pieces(i, j, weight, unit, *parts):
            for to, sender, sign in ((first, second, 1), (second, first, -1)):
                own, slope = context.index_select(0, sender), vectors.index_select(0, to)
                sent = own * factor
                by_unit = _dot(slope, along).mul_(sign)
                by_vectors = _dot(slope, v.index_select(0, sender))
                gradient = torch.cat([scalars.index_select(0, to), by_unit, by_vectors], -1)
                if sign > 0:
                    torch.mul(own, gradient, out=part)
                else:
                    part.addcmul_(own, gradient)
                _, unit_factor, vector_factor = sent.unsqueeze(1).chunk(3, -1)
                if unit_part:
                    unit_part[0].add_((slope * unit_factor).sum(-1, keepdim=True), alpha=sign)
                of_context.index_add_(0, sender, gradient.mul_(factor))
                of_v.index_add_(0, sender, slope.mul_(vector_factor))
        return of_context, of_v, of_weight, of_unit, None, None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum a * b over x, y, z: [p, 3, H] and [p, 3, H or 1] -> [p, H]."""
    out = a[:, 0] * b[:, 0]
    return out.addcmul_(a[:, 1], b[:, 1]).addcmul_(a[:, 2], b[:, 2])
