"""Sums over chains of two edges by compiled loops (`chain_kernels.py`), in one part for each thread."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgnn_dist.models.backbones.pairs.pair_loop import as_array, pair_parts, run_parts
from mmgnn_dist.models.graph import Graph


class NeighbourLists:
    """Harmonics and radial functions of the edges of a batch, by atom: `NeighbourSlots` without empty slots.

    Args:
        i: receiver of each edge, int64 [E]; edges are sorted by (i, j) and stand in both directions.
        j: source of each edge, int64 [E].
        harmonics: harmonics of the directions from receiver to source, [E, L^2].
        radial: radial functions of each edge, [E, L, R].
        graph: the batch.
    """

    def __init__(self, i: Tensor, j: Tensor, harmonics: Tensor, radial: Tensor, graph: Graph) -> None:
        self.orders, self.functions = radial.shape[1:]
        atoms = len(graph.z)
        self._first = np.searchsorted(i.numpy(), np.arange(atoms + 1))
        back = torch.searchsorted(i * atoms + j, j * atoms + i).numpy()
        self._edges = back, as_array(harmonics), as_array(radial)
        # parts of edges end between two molecules, hence between two atoms
        ends = [part.stop for part in pair_parts(graph, i)]
        bounds = [0, *np.searchsorted(self._first, ends).tolist()]
        self._parts = [slice(start, end + 1) for start, end in pairwise(bounds)]

    def chains(self, sent: Tensor, weights: Tensor) -> Tensor:
        """Sum over the chains k -> j -> i of each edge j -> i; see `NeighbourSlots.chains`."""
        out: Tensor = _Chains.apply(sent, weights, self)
        return out

    def forward(self, sent: Tensor, weights: Tensor) -> Tensor:
        """Compute the sums."""
        from mmgnn_dist.models.backbones.pairs.chain_kernels import chains_forward

        out = torch.empty_like(sent, memory_format=torch.contiguous_format)
        values = as_array(sent), as_array(weights), as_array(out)
        run_parts(self._parts, lambda _, part: chains_forward(self._first[part], *self._edges, *values))
        return out

    def backward(self, sent: Tensor, weights: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradients by `sent` and `weights`, for that of the sums."""
        from mmgnn_dist.models.backbones.pairs.chain_kernels import chains_backward

        of_sent = torch.empty_like(sent, memory_format=torch.contiguous_format)
        of_weights = weights.new_zeros(len(self._parts), *weights.shape)  # of each thread
        values = as_array(sent), as_array(weights), as_array(slope), as_array(of_sent)
        run_parts(
            self._parts,
            lambda place, part: chains_backward(
                self._first[part], *self._edges, *values, as_array(of_weights[place])
            ),
        )
        return of_sent, of_weights.sum(0)


class _Chains(torch.autograd.Function):
    """The sums; only what is sent and the weights are kept for the backward pass."""

    @staticmethod
    def forward(save: Any, sent: Tensor, weights: Tensor, lists: NeighbourLists) -> Tensor:
        save.save_for_backward(sent, weights)
        save.lists = lists
        return lists.forward(sent, weights)

    @staticmethod
    @once_differentiable
    def backward(save: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        return *save.lists.backward(*save.saved_tensors, slope), None
