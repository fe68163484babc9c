"""Sums over the chains of two edges k -> j -> i, without the chains: densities at the middle atom.

An interaction of DimeNet++ sums, for every edge j -> i, over the other neighbours k of j

    sum_{k != i} sum_l P_l(cos a) g_l(kj),      a between the directions k -> j and j -> i.

By the addition theorem P_l(u . v) = sum_m Y_lm(u) Y_lm(v), with harmonics of norm 1. With u_jk the direction
from j to its neighbour k, the cosine is -u_jk . u_ji: the sum over all k is a product with a density at j,

    sum_l (-1)^l sum_m Y_lm(u_ji) A_jlm,      A_jlm = sum_k Y_lm(u_jk) g_l(kj),

and the term k = i, sum_l (-1)^l g_l(ij), is subtracted. For n neighbours and L orders this takes 2 n L^2
products a channel instead of n^2 L, and nothing of the size of the chains is stored. Densities expanded in
harmonics are those of SOAP (Bartók, Kondor, Csányi, arXiv 1209.3140) and ACE (Drautz 2019).

On a CPU with numba compiled loops do this (`pairs/chain_loop.py`), unless the gradient with respect to
positions is needed. Elsewhere atoms have as many slots as the atom with most neighbours in the batch, so that
all sums are batched products in a fixed order. Empty slots hold zeros.
"""

from __future__ import annotations

from typing import Protocol

import torch
from e3nn import o3
from torch import Tensor

from mmgnn_dist.models.backbones.pairs.chain_loop import NeighbourLists
from mmgnn_dist.models.backbones.pairs.pair_loop import looped
from mmgnn_dist.models.graph import Graph


class Chains(Protocol):
    """Sums over the chains of a batch.

    Attributes:
        orders: number of orders L of the harmonics.
        functions: number of radial functions R of each order.
    """

    orders: int
    functions: int

    def chains(self, sent: Tensor, weights: Tensor) -> Tensor:
        """See `NeighbourSlots.chains`."""


class NeighbourSlots:
    """Harmonics and radial functions of the edges of a batch, by atom and slot.

    Args:
        i: receiver of each edge, int64 [E]; edges are sorted by (i, j) and stand in both directions.
        j: source of each edge, int64 [E].
        harmonics: harmonics of the directions from receiver to source, [E, L^2].
        radial: radial functions of each edge, [E, L, R].
        atoms: number of atoms N.
        most: largest number of neighbours of an atom.
    """

    def __init__(
        self, i: Tensor, j: Tensor, harmonics: Tensor, radial: Tensor, atoms: int, most: int
    ) -> None:
        edges, self.orders, self.functions = radial.shape
        self.atoms = atoms
        heard = torch.zeros(atoms, dtype=torch.int64, device=i.device).index_add_(0, i, torch.ones_like(i))
        self.most = most
        order = torch.arange(edges, device=i.device)
        first = torch.cumsum(heard, 0) - heard
        self.slot = i * self.most + order - first[i]
        self.edge = torch.zeros(atoms * self.most, dtype=torch.int64, device=i.device)
        self.edge[self.slot] = order
        # edge j -> i is answered at atom j, in the slot of its neighbour i: that of the edge i -> j
        self.answer = self.slot[torch.searchsorted(i * atoms + j, j * atoms + i)]
        self.radial = self._put(radial.flatten(1)).view(-1, self.orders, self.functions).transpose(0, 1)
        degrees = range(self.orders)
        self.harmonics = self._put(harmonics).view(atoms, self.most, self.orders**2)
        self.sizes = [2 * degree + 1 for degree in degrees]
        signs = [(-1.0) ** degree for degree in degrees]
        per_harmonic = [sign for sign, size in zip(signs, self.sizes, strict=True) for _ in range(size)]
        self.signs = harmonics.new_tensor(signs)
        self.signed = self.harmonics * harmonics.new_tensor(per_harmonic)

    def _put(self, values: Tensor) -> Tensor:
        """Put edge values [E, C] into the slots [N n, C]."""
        return values.new_zeros(self.atoms * self.most, values.shape[1]).index_copy(0, self.slot, values)

    def chains(self, sent: Tensor, weights: Tensor) -> Tensor:
        """Sum over the chains k -> j -> i of each edge j -> i: sent(kj) * sum_l P_l g_l(kj).

        Args:
            sent: what each edge k -> j sends, [E, H].
            weights: g_l of an edge is the product of its radial functions with these weights, [L, R, H].

        Returns:
            The sums at the edges j -> i, [E, H].
        """
        of_slot = sent.index_select(0, self.edge)
        every = torch.bmm(self.radial, weights) * of_slot  # [L, N n, H]; zero in empty slots
        densities = [
            torch.bmm(harmonics.transpose(1, 2), values.view(self.atoms, self.most, values.shape[1]))
            for harmonics, values in zip(self.harmonics.split(self.sizes, -1), every.unbind(), strict=True)
        ]
        heard = torch.bmm(self.signed, torch.cat(densities, 1)).flatten(0, 1)
        own = (self.signs @ every.flatten(1)).view_as(of_slot)  # the chains that end where they began
        return (heard - own).index_select(0, self.answer)


def neighbour_sums(i: Tensor, j: Tensor, unit: Tensor, radial: Tensor, graph: Graph, channels: int) -> Chains:
    """Return what sums over chains: compiled loops, or batched products where these are not served.

    Args:
        i: receiver of each edge, as in `NeighbourSlots`, as is `j`.
        j: source of each edge.
        unit: directions from receiver to source, [E, 3].
        radial: radial functions of each edge, [E, L, R].
        graph: the batch.
        channels: number of channels H of what the edges send.
    """
    degrees = list(range(radial.shape[1]))
    harmonics = o3.spherical_harmonics(degrees, unit, normalize=False, normalization="norm")
    if looped(radial, len(i) * channels) and not unit.requires_grad:
        return NeighbourLists(i, j, harmonics, radial, graph)
    return NeighbourSlots(i, j, harmonics, radial, len(graph.z), most_heard(graph, i))


def most_heard(graph: Graph, i: Tensor) -> int:
    """Largest number of neighbours of an atom; `i` are the receivers of the edges of a batch, int64 [E]."""
    if graph.neighbours is not None and graph.neighbours.i is i:
        return graph.neighbours.most
    return int(torch.bincount(i).max()) if len(i) else 0
