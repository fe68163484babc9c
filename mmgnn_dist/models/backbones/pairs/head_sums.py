"""Attention: sums of edge values at their receivers, weighted by each head, before the heads' linear map.

A linear map of the values commutes with their sum: on the sums of N atoms it takes a fraction of the work
that it takes on E edges. The sums by compiled loops are split by columns, so that no two threads write to
one value and a result has the same bits every time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgnn_dist.models.backbones.pairs.pair_loop import as_array, equal_parts, run_parts


def head_sums(values: Tensor, weight: Tensor, receiver: Tensor, atoms: int) -> Tensor:
    """Sum weight * values of the edges at their receivers; float32 in host memory.

    Args:
        values: values of the edges, [E, D].
        weight: weight of each edge in each head, [E, heads].
        receiver: atom that each edge arrives at, int64 [E].
        atoms: number of atoms N.

    Returns:
        The sums, [N, heads, D].
    """
    out: Tensor = _HeadSums.apply(values, weight, receiver, atoms)
    return out


class _HeadSums(torch.autograd.Function):
    """The sums; only their inputs are kept for the backward pass."""

    @staticmethod
    def forward(save: Any, values: Tensor, weight: Tensor, receiver: Tensor, atoms: int) -> Tensor:
        from mmgnn_dist.models.backbones.pairs.head_kernels import heads_forward

        save.save_for_backward(values, weight, receiver)
        out = values.new_zeros(atoms, weight.shape[1], values.shape[1])
        arrays = as_array(values), as_array(weight), receiver.numpy(), as_array(out)
        run_parts(equal_parts(values.shape[1]), lambda _, part: heads_forward(*arrays, part.start, part.stop))
        return out

    @staticmethod
    @once_differentiable
    def backward(save: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        from mmgnn_dist.models.backbones.pairs.head_kernels import heads_backward

        values, weight, receiver = save.saved_tensors
        parts = equal_parts(values.shape[1])
        of_values = torch.empty_like(values, memory_format=torch.contiguous_format)
        of_weight = weight.new_zeros(len(parts), *weight.shape)  # of each thread
        arrays = as_array(values), as_array(weight), receiver.numpy(), as_array(slope), as_array(of_values)
        run_parts(
            parts,
            lambda place, part: heads_backward(*arrays, as_array(of_weight[place]), part.start, part.stop),
        )
        return of_values, of_weight.sum(0), None, None
