"""Equiformer: graph attention on features of degree 0, 1 and 2.

Liao and Smidt: "Equiformer: Equivariant Graph Attention Transformer for 3D Atomistic Graphs", ICLR 2023
(arXiv 2206.11990), as in the authors' QM9 code. For an edge from neighbour j to receiver i:

    x_ij    = (Lin x_j + Lin x_i) (x)_w(d) Y(r_ij)             depth-wise tensor product, section 4.1
    f_ij    = Lin x_ij                                         linear messages
    f_ij    = Lin (Gate(Lin x_ij) (x) Y(r_ij))                 nonlinear messages
    z_ij    = a . SmoothLeakyReLU(scalars of x_ij)             scores of the MLP attention, one per head
    x_i    += Lin sum_j softmax_j(z_ij) f_ij                   heads are blocks of channels
    x_i    += Lin Gate(Lin norm(x_i))                          feed forward

Vectors have even parity, as published: the output is invariant to rotations but not to reflections. The
last block returns only scalars. The authors' code computes more there, and more than the scalar input of the
degree embedding; those values never reach an output, so they and their parameters are left out.

In the published form the output jumps when a pair crosses the cutoff. With `envelope: polynomial` the
envelope of an edge weights it in the numerator and the denominator of the softmax, again after the softmax
(a lone edge has weight 1 whatever its envelope), and in the degree embedding. The output is then smooth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgnn_dist.config import EquiformerConfig
from mmgnn_dist.models.backbones.base import ELEMENTS, AtomFeatures, Backbone
from mmgnn_dist.models.backbones.equivariant import (
    DEGREES,
    Channels,
    DegreeLinear,
    DegreeNorm,
    DepthwiseProduct,
    EdgeMatrices,
    Features,
    Gate,
)
from mmgnn_dist.models.backbones.pairs.head_sums import head_sums
from mmgnn_dist.models.backbones.pairs.pair_loop import looped
from mmgnn_dist.models.backbones.radial import polynomial_envelope
from mmgnn_dist.models.graph import Graph, edge_vectors, pairs_within

LEAKY = 1.531320475574866  # as SILU in equivariant.py: unit second moment, e3nn's sampled constant
MEAN_NEIGHBOURS = 15.57930850982666  # mean of QM9 within 5 Å, counted by the authors


@dataclass
class Edges:
    """Edges of a batch: all pairs in one direction, then all pairs in the other.

    Attributes:
        receiver, source: atoms of each edge, int64 [2P].
        matrices: matrices of the edge directions, see `EdgeMatrices`.
        basis: radial basis [P, R], the same for both directions.
        envelope: envelope of each edge [2P, 1], None in the published form.
        atoms: number of atoms N.
        fixed: whether no gradient with respect to positions is asked for.
    """

    receiver: Tensor
    source: Tensor
    matrices: list[Tensor]
    basis: Tensor
    envelope: Tensor | None
    atoms: int
    fixed: bool

    def gather(self, values: Tensor) -> Tensor:
        """Sum edge values [2P, ...] at their receivers: [N, ...]."""
        return values.new_zeros(self.atoms, *values.shape[1:]).index_add(0, self.receiver, values)


class GaussianBasis(nn.Module):
    """Normal densities with trainable means and widths: distances [P] -> [P, R]."""

    def __init__(self, count: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.mean = nn.Parameter(torch.rand(count))
        self.std = nn.Parameter(torch.empty(count).uniform_(1.0 / count, 1.0))
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, distance: Tensor) -> Tensor:
        """Evaluate the densities at distances in Å."""
        x = self.scale * (distance / self.cutoff).unsqueeze(-1) + self.shift
        std = self.std.abs() + 1e-5
        return torch.exp(-0.5 * ((x - self.mean) / std).square()) / (math.sqrt(2 * math.pi) * std)


class RadialNet(nn.Module):
    """Weights of a tensor product from distances: basis [P, R] -> [P, outputs], for both directions."""

    def __init__(self, basis: int, hidden: Channels, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inward, outward in zip((basis, *hidden), hidden, strict=False):
            layers += [nn.Linear(inward, outward), nn.LayerNorm(outward), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))
        # the bias of the last layer is the authors' `offset`: both start uniform within 1 / sqrt(fan-in)

    def forward(self, basis: Tensor) -> Tensor:
        """Compute the weights of the pairs."""
        return self.net(basis)


class DegreeEmbedding(nn.Module):
    """Initial features from the geometry around an atom; the elements of its neighbours are not read."""

    def __init__(self, config: EquiformerConfig) -> None:
        super().__init__()
        scalars = config.hidden[0]
        self.product = DepthwiseProduct((scalars,), DEGREES - 1)
        self.radial = RadialNet(config.gaussians, config.radial, self.product.weights)
        self.project = DegreeLinear((scalars,) * DEGREES, config.hidden)

    def forward(self, edges: Edges) -> Features:
        """Compute the features of the atoms."""
        weight = self.radial(edges.basis)
        ones = weight.new_ones(len(edges.receiver), 1, self.product.outputs[0])
        messages = self.project(self.product([ones], edges.matrices, weight))
        if edges.envelope is not None:
            messages = [x * edges.envelope.unsqueeze(-1) for x in messages]
        return [edges.gather(x) / math.sqrt(MEAN_NEIGHBOURS) for x in messages]


def smooth_leaky(x: Tensor) -> Tensor:
    """SmoothLeakyReLU with slope 0.2, scaled to unit second moment."""
    return LEAKY * (0.6 * x + 0.4 * x * (2 * torch.sigmoid(x) - 1))


class Attention(nn.Module):
    """Equivariant graph attention.

    Args:
        config: widths.
        degrees: number of degrees of the output: 1 in the last block, which returns only scalars.
    """

    def __init__(self, config: EquiformerConfig, degrees: int) -> None:
        super().__init__()
        hidden, self.heads = config.hidden, config.heads
        self.head = config.head[:degrees]
        values = tuple(self.heads * c for c in self.head)
        scores = self.heads * config.head[0]
        self.source = DegreeLinear(hidden, hidden)
        self.receiver = DegreeLinear(hidden, hidden, bias=False)
        self.nonlinear = config.messages == "nonlinear"
        self.product = DepthwiseProduct(hidden, DEGREES - 1 if self.nonlinear else degrees - 1)
        self.radial = RadialNet(config.gaussians, config.radial, self.product.weights)
        self.score = DegreeLinear(self.product.outputs[:1], (scores,))
        if self.nonlinear:
            self.gate = Gate(hidden)
            self.message = DegreeLinear(self.product.outputs, self.gate.inputs)
            self.second = DepthwiseProduct(hidden, degrees - 1)
            self.second_weight = nn.Parameter(torch.randn(1, self.second.weights))
            self.value = DegreeLinear(self.second.outputs, values)
        else:
            self.value = DegreeLinear(self.product.outputs, values)
        bound = math.sqrt(6 / (self.heads + config.head[0]))
        self.direction = nn.Parameter(torch.empty(self.heads, config.head[0]).uniform_(-bound, bound))
        self.dropout = nn.Dropout(config.attention_dropout)
        self.project = DegreeLinear(values, hidden[:degrees])

    def forward(self, features: Features, edges: Edges) -> Features:
        """Compute the update of the atoms from their normalised features."""
        source, receiver = self.source(features), self.receiver(features)
        edge_features = [
            s.index_select(0, edges.source) + r.index_select(0, edges.receiver)
            for s, r in zip(source, receiver, strict=True)
        ]
        product = self.product(edge_features, edges.matrices, self.radial(edges.basis))
        weight = self.dropout(self.weights(self.score(product[:1])[0], edges)).unsqueeze(1)
        if self.nonlinear:
            gated = self.gate(self.message(product))
            product = self.second(gated, edges.matrices, self.second_weight)
        return self.project(self.messages(product, weight, edges))

    def messages(self, product: Features, weight: Tensor, edges: Edges) -> Features:
        """Sum the values of the edges at their receivers, weighted by head; `weight` is [E, 1, heads]."""
        if edges.fixed and looped(weight, len(weight) * self.value.weight[0].shape[0]):
            return self._linear_of_sums(product, weight.squeeze(1), edges)
        return [
            edges.gather(x * weight.repeat_interleave(c, -1))
            for x, c in zip(self.value(product), self.head, strict=True)
        ]

    def _linear_of_sums(self, product: Features, weight: Tensor, edges: Edges) -> Features:
        """The linear map of the values after their sum, on atoms in place of edges."""
        out = []
        for x, linear, c in zip(product, self.value.weight, self.head, strict=False):
            sums = head_sums(x.flatten(1), weight, edges.receiver, edges.atoms)
            sums = sums.unflatten(2, x.shape[1:]).transpose(0, 1).flatten(1, 2)  # [heads, N (2l + 1), C]
            values = torch.bmm(sums, linear.unflatten(1, (-1, c)).transpose(0, 1))
            out.append(values.unflatten(1, (edges.atoms, -1)).permute(1, 2, 0, 3).flatten(2))
        assert self.value.bias is not None
        total = edges.gather(weight).repeat_interleave(self.head[0], -1)
        out[0] = out[0] + (total * self.value.bias).unsqueeze(1)
        return out

    def weights(self, scores: Tensor, edges: Edges) -> Tensor:
        """Softmax over the edges of each receiver: scores [E, 1, heads * C_0] -> weights [E, heads]."""
        logits = (smooth_leaky(scores.unflatten(-1, (self.heads, -1))) * self.direction).sum(-1).squeeze(1)
        index = edges.receiver.unsqueeze(-1).expand_as(logits)
        highest = logits.new_full((edges.atoms, self.heads), -torch.inf)
        highest = highest.scatter_reduce(0, index, logits.detach(), "amax")
        weight = torch.exp(logits - highest.index_select(0, edges.receiver))
        if edges.envelope is not None:
            weight = weight * edges.envelope
        weight = weight / (edges.gather(weight) + 1e-16).index_select(0, edges.receiver)
        return weight if edges.envelope is None else weight * edges.envelope


class FeedForward(nn.Module):
    """Feed-forward network: two linear maps with a gate between them."""

    def __init__(self, inputs: Channels, inner: Channels, outputs: Channels) -> None:
        super().__init__()
        self.gate = Gate(inner)
        self.first = DegreeLinear(inputs, self.gate.inputs)
        self.second = DegreeLinear(inner, outputs)

    def forward(self, features: Features) -> Features:
        """Compute the update of the atoms from their features."""
        return self.second(self.gate(self.first(features)))


class Block(nn.Module):
    """Attention and feed-forward network, each after a norm and with a residual connection.

    Args:
        config: widths.
        last: whether this is the last block: it returns `features` scalars, through a linear shortcut.
    """

    def __init__(self, config: EquiformerConfig, last: bool) -> None:
        super().__init__()
        degrees = 1 if last else DEGREES
        inner, outputs = config.hidden[:degrees], (config.features,) if last else config.hidden
        self.norm_attention = DegreeNorm(config.hidden)
        self.attention = Attention(config, degrees)
        self.norm_forward = DegreeNorm(inner)
        self.feed_forward = FeedForward(inner, config.mlp[:degrees], outputs)
        self.shortcut = DegreeLinear(inner, outputs) if last else None

    def forward(self, features: Features, edges: Edges) -> Features:
        """Compute the new features of the atoms."""
        x = _add(features, self.attention(self.norm_attention(features), edges))
        update = self.feed_forward(self.norm_forward(x))
        return _add(x if self.shortcut is None else self.shortcut(x), update)


def _add(a: Features, b: Features) -> Features:
    """Sum the degrees that both inputs have."""
    return [x + y for x, y in zip(a, b, strict=False)]


class Equiformer(Backbone):
    """Equiformer backbone: batch -> atom vectors [N, H], H = `features` scalars.

    Args:
        config: channels of degree 0, 1, 2, number of blocks, heads, the cutoff in Å.
    """

    directed = False

    def __init__(self, config: EquiformerConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.vector_width = config.features, config.hidden[1]
        self.start_width = config.hidden[0]
        self.embedding = nn.Embedding(ELEMENTS, config.hidden[0])
        self.basis = GaussianBasis(config.gaussians, config.cutoff)
        self.matrices = EdgeMatrices()
        self.degree_embedding = DegreeEmbedding(config)
        last = config.layers - 1
        self.blocks = nn.ModuleList(Block(config, last=k == last) for k in range(config.layers))
        self.norm = nn.LayerNorm(config.features)

    def edges(self, graph: Graph) -> Edges:
        """Build the edges of a batch and everything that depends only on positions."""
        i, j, distance = pairs_within(graph, self.config.cutoff)
        vectors = edge_vectors(graph, i, j)
        envelope = None
        if self.config.envelope == "polynomial":
            envelope = polynomial_envelope(distance, self.config.cutoff).repeat(2).unsqueeze(-1)
        return Edges(
            receiver=torch.cat([i, j]),
            source=torch.cat([j, i]),
            matrices=self.matrices(torch.cat([vectors, -vectors])),
            basis=self.basis(distance),
            envelope=envelope,
            atoms=len(graph.z),
            fixed=not vectors.requires_grad,
        )

    def degrees(self, graph: Graph) -> tuple[Features, Edges]:
        """Compute the inputs of the last block, degrees 0, 1, 2 ([N, 2l + 1, C_l]), and the edges."""
        edges = self.edges(graph)
        start = self.degree_embedding(edges)
        start[0] = start[0] + self.with_state(self.embedding(graph.z), graph).unsqueeze(1)
        for block in self.blocks[:-1]:
            start = block(start, edges)
        return start, edges

    def features(self, graph: Graph) -> AtomFeatures:
        """Return the scalars of the last block and the vectors [N, 3, C_1] of its input."""
        inner, edges = self.degrees(graph)
        scalars = self.blocks[-1](inner, edges)[0].squeeze(1)
        return AtomFeatures(self.norm(scalars), inner[1])
