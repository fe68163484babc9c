"""SchNet: continuous-filter convolutions on interatomic distances.

Schütt, Kindermans, Sauceda, Chmiela, Tkatchenko, Müller: "SchNet: a continuous-filter convolutional
neural network for modeling quantum interactions", NeurIPS 2017 (arXiv 1706.08566), with the cosine
cutoff and the parameter layout of the widely used PyTorch Geometric form:

    e_k(d)  = exp(-(d - mu_k)^2 / (2 dmu^2))                                   radial basis, section 4.2
    W(d)    = [Lin ssp Lin e(d)] * (cos(pi d / cutoff) + 1) / 2                filter generator
    x_i    += Lin ssp(Lin sum_j (Lin x_j) * W(d_ij))                           interaction, eq. 2 and fig. 2

A filter depends only on the distance, so W_ij = W_ji: every pair is computed once for both directions. This
halves the cost of the filters. A batch of many pairs tabulates them (`radial_table.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.nn.models.schnet import GaussianSmearing, ShiftedSoftplus

from mmgnn_dist.config import SchNetConfig
from mmgnn_dist.models.backbones.base import ELEMENTS, AtomFeatures, Backbone
from mmgnn_dist.models.backbones.pair_messages import exchange
from mmgnn_dist.models.backbones.radial import cosine_cutoff
from mmgnn_dist.models.backbones.radial_table import RadialGrid, RadialTable
from mmgnn_dist.models.graph import Graph, pairs_within


class SchNetInteraction(nn.Module):
    """Interaction block: x [N, H] -> its update [N, H]."""

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__()
        hidden, filters = config.hidden, config.filters
        self.filter = nn.Sequential(
            nn.Linear(config.gaussians, filters), ShiftedSoftplus(), nn.Linear(filters, filters)
        )
        self.inward = nn.Linear(hidden, filters, bias=False)
        self.outward = nn.Sequential(nn.Linear(filters, hidden), ShiftedSoftplus(), nn.Linear(hidden, hidden))
        for layer in (*self.filter, self.inward, *self.outward):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, i: Tensor, j: Tensor, basis: Tensor, at_pairs: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Compute the update from messages along the pairs (i, j) in both directions.

        Args:
            x: atom vectors [N, H].
            i: first atom of each pair, int64 [P].
            j: second atom of each pair, int64 [P].
            basis: radial basis at the pairs, or at the knots of a table.
            at_pairs: filters of the rows of `basis` -> filters of the pairs [P, F], with the cutoff.
        """
        return self.outward(exchange(self.inward(x), at_pairs(self.filter(basis)), i, j))


class SchNet(Backbone):
    """SchNet backbone: batch -> atom vectors [N, H].

    Args:
        config: widths, numbers of interactions and Gaussians, and the cutoff in Å.
    """

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__()
        self.config = config
        self.width = self.start_width = config.hidden
        self.embedding = nn.Embedding(ELEMENTS, config.hidden)
        self.smearing = GaussianSmearing(0.0, config.cutoff, config.gaussians)
        self.grid = RadialGrid(config.cutoff, config.cutoff / (config.gaussians - 1))
        self.interactions = nn.ModuleList(SchNetInteraction(config) for _ in range(config.interactions))

    def features(self, graph: Graph) -> AtomFeatures:
        """Compute the atom vectors [N, H] of a batch; positions in Å."""
        i, j, distance = pairs_within(graph, self.config.cutoff)
        envelope = cosine_cutoff(distance, self.config.cutoff)
        at_pairs: Callable[[Tensor], Tensor] = envelope.mul
        radial = distance
        if self.tabulated and self.grid.serves(distance):
            at_pairs = RadialTable(self.grid, distance, envelope.squeeze(-1))
            radial = self.grid.knots(distance)
        basis = self.smearing(radial).to(distance.dtype)
        x = self.with_state(self.embedding(graph.z), graph)
        for interaction in self.interactions:
            x = x + interaction(x, i, j, basis, at_pairs)
        return AtomFeatures(x)

    def table_error(self) -> float:
        """Measure the largest relative error of a tabulated filter."""
        errors = [
            self.grid.stencil_error(partial(self._filters, interaction), self.embedding.weight)
            for interaction in self.interactions
        ]
        return float(torch.tensor(errors).max())  # not a number if one of them is not

    def _filters(self, interaction: nn.Module, distance: Tensor) -> Tensor:
        """Filters [M, F] of an interaction at distances [M], without the cutoff."""
        filters: Tensor = interaction.get_submodule("filter")(self.smearing(distance).to(distance.dtype))
        return filters
