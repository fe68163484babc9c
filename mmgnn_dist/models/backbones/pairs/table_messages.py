"""Messages with tabulated filters: sum_j source_j * W(d_ij), without the filters of the pairs.

On a CPU with numba the interpolation and the sums are one loop over pairs (`pair_kernels.py`). Elsewhere they
are tensor operations (`radial_table.py`, `pair_messages.py`), with the same values and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgnn_dist.models.backbones.pairs.pair_loop import as_array, looped, pair_parts, run_parts
from mmgnn_dist.models.backbones.pairs.pair_messages import exchange
from mmgnn_dist.models.backbones.pairs.radial_table import RadialGrid, RadialTable, stencil
from mmgnn_dist.models.graph import Graph

Exchange = Callable[[Tensor, Tensor], Tensor]  # source [N, C], filters at the knots [K, C] -> sums [N, C]


def table_messages(
    grid: RadialGrid, distance: Tensor, envelope: Tensor, i: Tensor, j: Tensor, graph: Graph
) -> Exchange:
    """Make the function that sums messages along all pairs in both directions.

    Args:
        grid: the knots.
        distance: distances in Å below the cutoff, float32 [P].
        envelope: factor of each pair, [P].
        i: first atom of each pair, int64 [P], ascending.
        j: second atom of each pair, int64 [P].
        graph: the batch.
    """
    table: list[RadialTable] = []
    loop: list[PairLoop] = []

    def messages(source: Tensor, filters: Tensor) -> Tensor:
        if looped(source, len(i)):
            loop[:] = loop or [PairLoop(grid, distance, envelope, i, j, graph)]
            return loop[0].exchange(source, filters)
        table[:] = table or [RadialTable(grid, distance, envelope)]
        return exchange(source, table[0](filters), i, j)

    return messages


class PairLoop:
    """The pairs of a batch as arrays; arguments as in `table_messages`."""

    def __init__(
        self, grid: RadialGrid, distance: Tensor, envelope: Tensor, i: Tensor, j: Tensor, graph: Graph
    ) -> None:
        knot, weight = stencil(grid, distance, envelope)
        self.columns = (knot.numpy(), weight.numpy(), i.numpy(), j.numpy())
        self.parts = pair_parts(graph, i)

    def exchange(self, source: Tensor, filters: Tensor) -> Tensor:
        """Sum source_j * W_ij at atom i and source_i * W_ij at atom j: [N, C] and [K, C] -> [N, C]."""
        out: Tensor = _Loop.apply(source, filters, self)
        return out


class _Loop(torch.autograd.Function):
    """The sums and their gradients; only the inputs are kept for the backward pass."""

    @staticmethod
    def forward(context: Any, source: Tensor, filters: Tensor, pairs: PairLoop) -> Tensor:
        from mmgnn_dist.models.backbones.pairs.pair_kernels import exchange_forward

        context.save_for_backward(source, filters)
        context.pairs = pairs
        out = torch.zeros_like(source, memory_format=torch.contiguous_format)
        sent, table, sums = (as_array(tensor) for tensor in (source, filters, out))

        def run(_: int, part: slice) -> None:
            exchange_forward(sent, table, *(column[part] for column in pairs.columns), sums)

        run_parts(pairs.parts, run)
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        from mmgnn_dist.models.backbones.pairs.pair_kernels import exchange_backward

        source, filters = context.saved_tensors
        pairs = context.pairs
        of_source = torch.zeros_like(source, memory_format=torch.contiguous_format)
        of_filters = filters.new_zeros(
            len(pairs.parts), *filters.shape
        )  # two threads write to the same knots
        sent, table, slope = (as_array(tensor) for tensor in (source, filters, gradient))
        sums, tables = as_array(of_source), as_array(of_filters)

        def run(place: int, part: slice) -> None:
            columns = (column[part] for column in pairs.columns)
            exchange_backward(sent, table, *columns, slope, sums, tables[place])

        run_parts(pairs.parts, run)
        return of_source, of_filters.sum(0) if len(pairs.parts) > 1 else of_filters[0], None
