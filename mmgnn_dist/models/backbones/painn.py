"""PaiNN: messages of scalars and of vectors that rotate with the molecule.

Schütt, Unke, Gastegger: "Equivariant message passing for the prediction of tensorial properties and
molecular spectra", ICML 2021 (arXiv 2102.03150), sections 3.2 and 3.3 and figure 2. With scalars s_i, vectors
v_i [3, H], and d, u the length and the direction of the vector from receiver i to neighbour j:

    a_ss, a_sv, a_vv = [Lin silu Lin s_j] * [Lin e(d)] * (cos(pi d / cutoff) + 1) / 2     message
    s_i += sum_j a_ss,    v_i += sum_j (a_sv u + a_vv * v_j)
    V, W = Lin v_i;   b_ss, b_vv, b_sv = Lin silu Lin [s_i, |V|]                          update
    s_i += b_ss + b_sv * <V, W>,    v_i += b_vv * W

with e_n(d) = sin(n pi d / cutoff) / d, or Gaussians. The filter W(d) is the same for j -> i and i -> j, and u
only changes its sign: every pair is computed once for both directions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.nn.models.schnet import GaussianSmearing

from mmgnn_dist.config import PaiNNConfig
from mmgnn_dist.models.backbones.base import ELEMENTS, AtomFeatures, Backbone
from mmgnn_dist.models.backbones.pairs.painn_messages import exchange_vectors
from mmgnn_dist.models.backbones.radial import cosine_cutoff
from mmgnn_dist.models.graph import Graph, edge_vectors, pairs_within

TINY = 1e-8  # keeps the norm of a vanishing vector differentiable; the authors' value


class BesselWaves(nn.Module):
    """Radial basis sin(n pi d / cutoff) / d for n = 1 ... count: distances [P] -> [P, count]."""

    frequency: Tensor

    def __init__(self, count: int, cutoff: float) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.arange(1, count + 1) * (math.pi / cutoff))

    def forward(self, distance: Tensor) -> Tensor:
        """Evaluate the waves at distances in Å."""
        distance = distance.unsqueeze(-1)
        return torch.sin(self.frequency * distance) / distance


class Message(nn.Module):
    """Message block: updates of s [N, H] and v [N, 3, H] from the neighbours."""

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        self.context = _two_layers(config.hidden, config.hidden, 3 * config.hidden)
        self.filter = _linear(config.radial, 3 * config.hidden)

    def forward(
        self,
        s: Tensor,
        v: Tensor,
        pairs: tuple[Tensor, Tensor, Tensor],
        basis: Tensor,
        envelope: Tensor,
        graph: Graph,
    ) -> tuple[Tensor, Tensor]:
        """Sum messages along the pairs in both directions: directions [P, 3, 1] from i to j, and i, j [P]."""
        weight = self.filter(basis) * envelope
        return exchange_vectors(self.context(s), v, weight, *pairs, graph)


class Update(nn.Module):
    """Update block: updates of s and v from the scalars and vectors of the same atom."""

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        self.mix = _linear(config.hidden, 2 * config.hidden, bias=False)
        self.context = _two_layers(2 * config.hidden, config.hidden, 3 * config.hidden)

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the updates of s [N, H] and v [N, 3, H]."""
        left, right = self.mix(v).chunk(2, -1)
        norm = (left.square().sum(1) + TINY).sqrt()
        b_ss, b_vv, b_sv = self.context(torch.cat([s, norm], -1)).chunk(3, -1)
        return b_ss + b_sv * (left * right).sum(1), b_vv.unsqueeze(1) * right


class PaiNN(Backbone):
    """PaiNN backbone: batch -> atom vectors [N, H], and vectors [N, 3, H] that rotate with the molecule.

    Args:
        config: width, number of interactions, radial basis, and the cutoff in Å.
    """

    directed = False

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        self.config = config
        self.width = self.vector_width = self.start_width = config.hidden
        self.embedding = nn.Embedding(ELEMENTS, config.hidden)
        self.basis = (
            BesselWaves(config.radial, config.cutoff)
            if config.basis == "bessel"
            else GaussianSmearing(0.0, config.cutoff, config.radial)
        )
        self.messages = nn.ModuleList(Message(config) for _ in range(config.interactions))
        self.updates = nn.ModuleList(Update(config) for _ in range(config.interactions))

    def features(self, graph: Graph) -> AtomFeatures:
        """Compute the scalars and vectors of the atoms; positions in Å."""
        i, j, distance = pairs_within(graph, self.config.cutoff)
        unit = (edge_vectors(graph, i, j) / distance.unsqueeze(-1)).unsqueeze(-1)
        basis, envelope = self.basis(distance), cosine_cutoff(distance, self.config.cutoff)
        s = self.with_state(self.embedding(graph.z), graph)
        v = s.new_zeros(len(s), 3, self.width)
        for message, update in zip(self.messages, self.updates, strict=True):
            ds, dv = message(s, v, (unit, i, j), basis, envelope, graph)
            s, v = s + ds, v + dv
            ds, dv = update(s, v)
            s, v = s + ds, v + dv
        return AtomFeatures(s, v)


def _two_layers(inward: int, hidden: int, outward: int) -> nn.Sequential:
    return nn.Sequential(_linear(inward, hidden), nn.SiLU(), _linear(hidden, outward))


def _linear(inward: int, outward: int, bias: bool = True) -> nn.Linear:
    """A linear layer initialised as by the authors: Glorot uniform weights, zero bias."""
    layer = nn.Linear(inward, outward, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
