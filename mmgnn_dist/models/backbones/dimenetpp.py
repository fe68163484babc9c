"""DimeNet++: directional messages along edges, updated through the angles between edges.

Gasteiger, Giri, Margraf, Günnemann: "Fast and uncertainty-aware directional message passing for
non-equilibrium molecules", 2020 (arXiv 2011.14115), after DimeNet (arXiv 2003.03123). An edge j -> i carries
a message m_ji [H], a chain of edges k -> j -> i is a triplet; d is a distance, x = d / cutoff:

    u(x)     = 1/x - 28 x^5 + 48 x^6 - 21 x^7                                     envelope
    rbf_n    = u(x) sin(f_n x),  f_n learned, n pi at the start                   radial basis
    sbf_ln   = u(x_kj) N_ln j_l(z_ln x_kj) Y_l0(angle)                            spherical basis
    m_ji     = silu Lin [h_i, h_j, silu Lin rbf(x_ji)]                            embedding
    t_ji     = silu Lin sum_k [silu Lin (silu Lin m_kj * Lin Lin rbf_kj)] * Lin Lin sbf_kj,ji
    m_ji     = res res (silu Lin res (silu Lin m_ji + t_ji) + m_ji)               interaction
    a_i      = silu Lin silu Lin silu Lin Lin sum_j m_ji * Lin rbf_ji             output, before and after
                                                                                    every interaction
    res y    = y + silu Lin silu Lin y

As in the authors' code, the angle lies between the directions k -> j and j -> i: it is pi minus the bond
angle, and 0 in a straight chain. Only Legendre polynomials of its cosine are needed. The cosine is a smooth
function of the positions, so straight chains get their correct zero gradient. z_ln are the exact zeros of
j_l. The linear maps of sbf have no activation between them, so the sum over k is made from densities at atom
j, without a list of triplets (`angular_density.py`).

The authors end each output block with a linear layer to the target and sum over the blocks. That layer is a
head and is left out: the atom vector is the sum of a_i over the blocks. An atom without neighbours within
the cutoff receives no message, so its vector does not depend on its element.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch_geometric.nn.inits import glorot_orthogonal

from mmgnn_dist.config import DimeNetPPConfig
from mmgnn_dist.models.backbones.angular_density import Chains, neighbour_sums
from mmgnn_dist.models.backbones.base import ELEMENTS, AtomFeatures, Backbone
from mmgnn_dist.models.backbones.radial import bessel_zeros, spherical_bessel
from mmgnn_dist.models.graph import Graph, edge_vectors, edges_within

OUTPUT_LAYERS = 3  # published value, as are one residual layer before and two after the skip connection


def envelope(x: Tensor) -> Tensor:
    """u(x) for x in (0, 1), including the 1/x of the waves; two derivatives vanish at x = 1."""
    return 1.0 / x + x.pow(5) * (-28.0 + x * (48.0 - 21.0 * x))


class RadialBasis(nn.Module):
    """Radial basis: scaled distances x [E] -> rbf [E, R]."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(math.pi * torch.arange(1, count + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the waves at scaled distances."""
        return envelope(x).unsqueeze(-1) * torch.sin(x.unsqueeze(-1) * self.frequency)


class SphericalWaves(nn.Module):
    """Radial part of the spherical basis: scaled distances x [E] -> u(x) N_ln j_l(z_ln x) [E, L, R]."""

    zeros: Tensor
    scale: Tensor

    def __init__(self, orders: int, count: int) -> None:
        super().__init__()
        zeros = bessel_zeros(orders, count)
        order = torch.arange(orders).double()
        following = torch.stack([spherical_bessel(k + 1, zeros[k]) for k in range(orders)])
        # N_ln times the factor sqrt((2 l + 1) / 4 pi) of Y_l0
        scale = math.sqrt(2.0) / following.abs() * ((2 * order + 1) / (4 * math.pi)).sqrt().unsqueeze(-1)
        # computed in float64, stored in the default type of the model
        self.register_buffer("zeros", zeros.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("scale", scale.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the waves at scaled distances."""
        waves = [spherical_bessel(k, x.unsqueeze(-1) * zeros) for k, zeros in enumerate(self.zeros)]
        return envelope(x).view(-1, 1, 1) * torch.stack(waves, 1) * self.scale


class Residual(nn.Module):
    """Residual layer: x + silu Lin silu Lin x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _linear(width, width), _linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer: [E, H] -> [E, H]."""
        return x + silu(self.second(silu(self.first(x))))


class EdgeJoin(nn.Linear):
    """Lin [h_i; h_j; r] of the edges in three parts; the two atom parts are computed once per atom."""

    def __init__(self, hidden: int) -> None:
        super().__init__(3 * hidden, hidden)

    def forward(self, h: Tensor, radial: Tensor, i: Tensor, j: Tensor) -> Tensor:  # type: ignore[override]
        """Apply the map: atoms h [N, H] and edges radial [E, H] -> [E, H]."""
        of_receiver, of_source, of_radial = self.weight.chunk(3, 1)
        return (
            radial @ of_radial.T
            + (h @ of_receiver.T + self.bias).index_select(0, i)
            + (h @ of_source.T).index_select(0, j)
        )


class Embedding(nn.Module):
    """Embedding block: vectors of the elements and distance of an edge -> its first message [E, H]."""

    def __init__(self, config: DimeNetPPConfig) -> None:
        super().__init__()
        self.element = nn.Embedding(ELEMENTS, config.hidden)
        nn.init.uniform_(self.element.weight, -math.sqrt(3.0), math.sqrt(3.0))
        # torch's default initialisation, as in PyTorch Geometric
        self.radial = nn.Linear(config.radial, config.hidden)
        self.join = EdgeJoin(config.hidden)

    def forward(self, h: Tensor, rbf: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Compute the messages of the edges j -> i from vectors h [N, H]; the receiver comes first."""
        return silu(self.join(h, silu(self.radial(rbf)), i, j))


class DimeNetPPInteraction(nn.Module):
    """Interaction block: messages [E, H] -> messages [E, H] updated along the triplets."""

    def __init__(self, config: DimeNetPPConfig) -> None:
        super().__init__()
        hidden, inner, basis = config.hidden, config.triplet, config.basis
        self.own, self.other = _linear(hidden, hidden), _linear(hidden, hidden)
        # two layers without an activation between them: a low-rank product
        self.radial = nn.Sequential(
            _linear(config.radial, basis, bias=False), _linear(basis, hidden, bias=False)
        )
        self.spherical = nn.Sequential(
            _linear(config.spherical * config.radial, basis, bias=False), _linear(basis, inner, bias=False)
        )
        self.down, self.up = _linear(hidden, inner, bias=False), _linear(inner, hidden, bias=False)
        self.before = Residual(hidden)
        self.skip = _linear(hidden, hidden)
        self.after = nn.Sequential(Residual(hidden), Residual(hidden))

    def forward(self, m: Tensor, rbf: Tensor, slots: Chains) -> Tensor:
        """Update the messages over the triplets."""
        inner = silu(self.down(silu(self.other(m)) * self.radial(rbf)))
        orders, functions = slots.orders, slots.functions
        # the product of both matrices; calls of the layers, since ZeRO stage 3 gathers weights around these
        weights = self.spherical(torch.eye(orders * functions, dtype=m.dtype, device=m.device))
        heard = slots.chains(inner, weights.view(orders, functions, -1))
        t = silu(self.up(heard))
        return self.after(silu(self.skip(self.before(silu(self.own(m)) + t))) + m)


class Output(nn.Module):
    """Output block: messages [E, H] -> atom vectors [N, O], without the authors' last linear layer."""

    def __init__(self, config: DimeNetPPConfig) -> None:
        super().__init__()
        self.radial = _linear(config.radial, config.hidden, bias=False)
        self.up = _linear(config.hidden, config.output, bias=False)
        self.layers = nn.ModuleList(_linear(config.output, config.output) for _ in range(OUTPUT_LAYERS))

    def forward(self, m: Tensor, rbf: Tensor, i: Tensor, atoms: int) -> Tensor:
        """Sum the messages at their receivers i and transform the sums."""
        h = self.up(m.new_zeros(atoms, m.shape[-1]).index_add(0, i, m * self.radial(rbf)))
        for layer in self.layers:
            h = silu(layer(h))
        return h


class DimeNetPP(Backbone):
    """DimeNet++ backbone: batch -> atom vectors [N, O].

    Args:
        config: widths, numbers of blocks and basis functions, and the cutoff in Å.
    """

    directed = True

    def __init__(self, config: DimeNetPPConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.start_width = config.output, config.hidden
        self.rbf = RadialBasis(config.radial)
        self.waves = SphericalWaves(config.spherical, config.radial)
        self.embedding = Embedding(config)
        self.interactions = nn.ModuleList(DimeNetPPInteraction(config) for _ in range(config.blocks))
        self.outputs = nn.ModuleList(Output(config) for _ in range(config.blocks + 1))

    def features(self, graph: Graph) -> AtomFeatures:
        """Compute the atom vectors of a batch, the sum over output blocks; positions in Å."""
        return AtomFeatures(torch.stack(self.output_vectors(graph)).sum(0))

    def output_vectors(self, graph: Graph) -> list[Tensor]:
        """Compute the atom vectors [N, O] of every output block: one block more than interactions."""
        i, j = edges_within(graph, self.config.cutoff)
        vector = edge_vectors(graph, i, j)
        distance = vector.square().sum(-1).sqrt()
        x = distance / self.config.cutoff
        rbf = self.rbf(x)
        unit = vector / distance.unsqueeze(-1)
        slots = neighbour_sums(i, j, unit, self.waves(x), graph, self.config.triplet)
        m = self.embedding(self.with_state(self.embedding.element(graph.z), graph), rbf, i, j)
        out = [self.outputs[0](m, rbf, i, len(graph.z))]
        for interaction, output in zip(self.interactions, self.outputs[1:], strict=True):
            m = interaction(m, rbf, slots)
            out.append(output(m, rbf, i, len(graph.z)))
        return out


def _linear(inward: int, outward: int, bias: bool = True) -> nn.Linear:
    """A linear layer initialised as by the authors: scaled random orthogonal weights, zero bias."""
    layer = nn.Linear(inward, outward, bias=bias)
    glorot_orthogonal(layer.weight, scale=2.0)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
