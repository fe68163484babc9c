"""SchNet: continuous-filter convolutions on interatomic distances.

Schütt, Kindermans, Sauceda, Chmiela, Tkatchenko, Müller: "SchNet: a continuous-filter convolutional
neural network for modeling quantum interactions", NeurIPS 2017 (arXiv 1706.08566), with the cosine
cutoff and the parameter layout of the widely used PyTorch Geometric form:

    e_k(d)  = exp(-(d - mu_k)^2 / (2 dmu^2))                                   radial basis, section 4.2
    W(d)    = [Lin ssp Lin e(d)] * (cos(pi d / cutoff) + 1) / 2                filter generator
    x_i    += Lin ssp(Lin sum_j (Lin x_j) * W(d_ij))                           interaction, eq. 2 and fig. 2

A filter depends only on the distance, so W_ij = W_ji: every pair is computed once for both directions. This
halves the cost of the filters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn.models.schnet import GaussianSmearing, ShiftedSoftplus

from mmgnn_dist.config import SchNetConfig
from mmgnn_dist.models.backbones.base import ELEMENTS, AtomFeatures, Backbone
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

    def forward(self, x: Tensor, i: Tensor, j: Tensor, basis: Tensor, envelope: Tensor) -> Tensor:
        """Compute the update from messages along the pairs (i, j) in both directions."""
        weight = self.filter(basis) * envelope
        source = self.inward(x)
        gathered = torch.zeros_like(source)
        gathered = gathered.index_add(0, i, source.index_select(0, j) * weight)
        gathered = gathered.index_add(0, j, source.index_select(0, i) * weight)
        return self.outward(gathered)


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
        self.interactions = nn.ModuleList(SchNetInteraction(config) for _ in range(config.interactions))

    def features(self, graph: Graph) -> AtomFeatures:
        """Compute the atom vectors [N, H] of a batch; positions in Å."""
        i, j, distance = pairs_within(graph, self.config.cutoff)
        basis = self.smearing(distance).to(distance.dtype)
        envelope = cosine_cutoff(distance, self.config.cutoff)
        x = self.with_state(self.embedding(graph.z), graph)
        for interaction in self.interactions:
            x = x + interaction(x, i, j, basis, envelope)
        return AtomFeatures(x)
