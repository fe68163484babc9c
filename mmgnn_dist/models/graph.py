"""Atoms of a batch, and the pairs of atoms that interact.

Shapes: `N` atoms and `B` molecules of a batch, `P` pairs, `E` edges (two per pair), `T` triplets, `H` width.
All code is plain torch on the device of its input, without compiled extensions and without a limit on the
number of neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmgnn_dist.data.loading.batch import Batch, Neighbours


@dataclass
class Graph:
    """A batch of molecules.

    Attributes:
        z: atomic numbers, int64 [N].
        pos: positions in Å, [N, 3].
        ptr: molecule b holds the atoms `ptr[b]:ptr[b + 1]`, int64 [B + 1].
        molecule: the molecule of each atom, int64 [N].
        charge: total charge of each molecule in e, int64 [B]; None if all are neutral singlets.
        multiplicity: spin multiplicity of each molecule, int64 [B]; None as `charge`.
        neighbours: pairs that were found before, so that no size has to be read from a GPU; None: not yet.
    """

    z: Tensor
    pos: Tensor
    ptr: Tensor
    molecule: Tensor
    charge: Tensor | None = None
    multiplicity: Tensor | None = None
    neighbours: Neighbours | None = None

    @classmethod
    def make(
        cls,
        z: Tensor,
        pos: Tensor,
        ptr: Tensor,
        charge: Tensor | None = None,
        multiplicity: Tensor | None = None,
        neighbours: Neighbours | None = None,
    ) -> Graph:
        """Build a graph from the arrays of a batch; `molecule` follows from `ptr`."""
        counts = ptr[1:] - ptr[:-1]
        order = torch.arange(len(counts), device=ptr.device)
        molecule = torch.repeat_interleave(order, counts, output_size=len(z))
        return cls(z.long(), pos, ptr, molecule, charge, multiplicity, neighbours)

    @property
    def size(self) -> int:
        """Number of molecules B."""
        return len(self.ptr) - 1


def pairs_within(graph: Graph, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Find every pair of atoms of one molecule that is closer than `cutoff`, each pair once.

    Index arithmetic builds all pairs of a molecule (atom i with each atom before it); pairs beyond the cutoff
    are then dropped. This is exact, and fast up to some thousand atoms per molecule.

    Args:
        graph: the batch.
        cutoff: cutoff in Å, exclusive.

    Returns:
        i, j: int64 [P] with i > j.
        distance: [P] in Å, differentiable in the positions.
    """
    i, j = _found(graph, cutoff, directed=False)
    return i, j, edge_vectors(graph, i, j).square().sum(-1).sqrt()


def edges_within(graph: Graph, cutoff: float) -> tuple[Tensor, Tensor]:
    """Find every pair closer than `cutoff`, in both directions, sorted by (i, j).

    Args:
        graph: the batch.
        cutoff: cutoff in Å, exclusive.

    Returns:
        i, j: int64 [E], the receiver and the source of each edge.
    """
    return _found(graph, cutoff, directed=True)


def find_neighbours(batch: Batch, cutoff: float, directed: bool) -> Batch:
    """Return a batch with its pairs (or, directed, edges) closer than `cutoff`, for `Graph.neighbours`."""
    i, j = _search(Graph.make(batch.z, batch.pos, batch.ptr), cutoff, directed)
    most = int(torch.bincount(i).max()) if len(i) else 0
    return replace(batch, neighbours=Neighbours(cutoff, directed, i, j, most))


def _found(graph: Graph, cutoff: float, directed: bool) -> tuple[Tensor, Tensor]:
    """The pairs or edges that were found before, else search them."""
    found = graph.neighbours
    if found is not None and (found.cutoff, found.directed) == (cutoff, directed):
        return found.i, found.j
    return _search(graph, cutoff, directed)


def _search(graph: Graph, cutoff: float, directed: bool) -> tuple[Tensor, Tensor]:
    """All pairs of the atoms of a molecule by index arithmetic, without those beyond the cutoff."""
    first = graph.ptr[graph.molecule]
    order = torch.arange(len(graph.z), device=first.device)
    i, j = _ranges(first, (graph.ptr[graph.molecule + 1] if directed else order) - first)
    near = _near(graph, i, j, cutoff)
    chosen = torch.nonzero(near & (i != j) if directed else near).squeeze(-1)
    return i.index_select(0, chosen), j.index_select(0, chosen)


def triplets(i: Tensor, j: Tensor, atoms: int) -> tuple[Tensor, Tensor]:
    """Find every chain k -> j -> i of two edges with k != i, sorted by (edge j -> i, k).

    Args:
        i: receiver of each edge j -> i, int64 [E]; edges are sorted by (i, j).
        j: source of each edge, int64 [E].
        atoms: number of atoms N.

    Returns:
        kj, ji: int64 [T], the edges k -> j and j -> i of each chain.
    """
    heard = torch.zeros(atoms, dtype=torch.int64, device=i.device).index_add_(0, i, torch.ones_like(i))
    first = torch.cumsum(heard, 0) - heard  # the first edge whose receiver is atom j
    ji, kj = _ranges(first[j], heard[j])
    keep = torch.nonzero(j[kj] != i[ji]).squeeze(-1)
    return kj.index_select(0, keep), ji.index_select(0, keep)


def edge_vectors(graph: Graph, i: Tensor, j: Tensor) -> Tensor:
    """Vectors from atoms i to atoms j in Å, [P, 3]."""
    # index_select: its derivative adds rows in one pass; the derivative of indexing sorts them first
    return graph.pos.index_select(0, j) - graph.pos.index_select(0, i)


def _near(graph: Graph, i: Tensor, j: Tensor, cutoff: float) -> Tensor:
    """Whether the atoms of each pair are closer than `cutoff`, bool [P]."""
    with torch.no_grad():
        return edge_vectors(graph, i, j).square().sum(-1) < cutoff * cutoff


def _ranges(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Pair each row r with the integers from start[r] to start[r] + count[r] - 1: rows, integers."""
    row = torch.repeat_interleave(count, output_size=int(count.sum()))
    skipped = torch.cumsum(count, 0) - count
    return row, torch.arange(len(row), device=row.device) + (start - skipped)[row]


def sum_molecules(values: Tensor, graph: Graph) -> Tensor:
    """Sum atom values [N, K] over each molecule: [B, K]."""
    out = values.new_zeros(graph.size, values.shape[-1])
    return out.index_add_(0, graph.molecule, values)
