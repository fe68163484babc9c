"""Atoms of a batch, and the pairs of atoms that interact.

Shapes: `N` atoms and `B` molecules of a batch, `P` pairs, `H` width. Everything is plain torch on the
device of its input: no compiled extension, and no cap on the number of neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Graph:
    """A batch of molecules.

    Attributes:
        z: atomic numbers, int64 [N].
        pos: positions in Å, [N, 3].
        ptr: molecule b holds the atoms `ptr[b]:ptr[b + 1]`, int64 [B + 1].
        molecule: the molecule of each atom, int64 [N].
    """

    z: Tensor
    pos: Tensor
    ptr: Tensor
    molecule: Tensor

    @classmethod
    def make(cls, z: Tensor, pos: Tensor, ptr: Tensor) -> Graph:
        """Join the arrays of a batch; `molecule` follows from `ptr`."""
        counts = ptr[1:] - ptr[:-1]
        order = torch.arange(len(counts), device=ptr.device)
        return cls(z.long(), pos, ptr, torch.repeat_interleave(order, counts, output_size=len(z)))

    @property
    def size(self) -> int:
        """Number of molecules B."""
        return len(self.ptr) - 1


def pairs_within(graph: Graph, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of atoms of one molecule closer than `cutoff`, each pair once.

    All pairs of a molecule are built by index arithmetic (atom i meets the atoms before it), then those
    beyond the cutoff are dropped: exact, and quick up to some thousand atoms in a molecule.

    Args:
        graph: the batch.
        cutoff: Å, exclusive.

    Returns:
        i, j: int64 [P] with i > j; distance: [P] in Å, differentiable in the positions.
    """
    first = graph.ptr[graph.molecule]
    before = torch.arange(len(graph.z), device=graph.z.device) - first
    total = int(before.sum())
    i = torch.repeat_interleave(before, output_size=total)
    start = torch.cumsum(before, 0) - before
    j = torch.arange(total, device=i.device) - (start - first)[i]
    with torch.no_grad():
        squared = (graph.pos[i] - graph.pos[j]).square().sum(-1)
        keep = torch.nonzero(squared < cutoff * cutoff).squeeze(-1)
    i, j = i[keep], j[keep]
    return i, j, (graph.pos[i] - graph.pos[j]).square().sum(-1).sqrt()


def sum_molecules(values: Tensor, graph: Graph) -> Tensor:
    """Sum atom values [N, K] over each molecule: [B, K]."""
    out = values.new_zeros(graph.size, values.shape[-1])
    return out.index_add_(0, graph.molecule, values)
