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

from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.nn.models.schnet import GaussianSmearing, ShiftedSoftplus

from mmgnn_dist.config import SchNetConfig
from mmgnn_dist.models.backbones.base import ELEMENTS, AtomFeatures, Backbone
from mmgnn_dist.models.backbones.pairs.pair_messages import exchange
from mmgnn_dist.models.backbones.pairs.radial_table import RadialGrid
from mmgnn_dist.models.backbones.pairs.table_messages import Exchange, table_messages
from mmgnn_dist.models.backbones.radial import cosine_cutoff
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

    def forward(self, x: Tensor, basis: Tensor, messages: Exchange) -> Tensor:
        """Compute the update from messages along all pairs in both directions.

        Args:
            x: atom vectors [N, H].
            basis: radial basis at the pairs, or at the knots of a table.
            messages: what atoms send [N, F] and filters of the rows of `basis` -> sums at the atoms [N, F].
        """
        return self.outward(messages(self.inward(x), self.filter(basis)))


class SchNet(Backbone):
    """SchNet backbone: batch -> atom vectors [N, H].

    Args:
        config: widths, numbers of interactions and Gaussians, and the cutoff in Å.
    """

    directed = False

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
        radial = distance
        if self.tabulated and self.grid.serves(distance):
            messages = table_messages(self.grid, distance, envelope.squeeze(-1), i, j, graph)
            radial = self.grid.knots(distance)
        else:

            def messages(source: Tensor, filters: Tensor) -> Tensor:
                return exchange(source, filters * envelope, i, j)

        basis = self.smearing(radial).to(distance.dtype)
        x = self.with_state(self.embedding(graph.z), graph)
        for interaction in self.interactions:
            x = x + interaction(x, basis, messages)
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
