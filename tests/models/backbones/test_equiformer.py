"""Equiformer: what every backbone must do, its blocks against their equations, symmetry, size."""

from __future__ import annotations

import math

import pytest
import torch
from backbone_suite import BackboneSuite, assert_near, default_dtype, turn
from e3nn import o3
from model_batches import real_molecules
from torch import Tensor
from torch.nn.functional import silu

from mmgnn_dist.config import EquiformerConfig
from mmgnn_dist.models.backbones.equiformer import LEAKY, MEAN_NEIGHBOURS, Equiformer
from mmgnn_dist.models.backbones.equivariant import SIGMOID, SILU, paths
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.graph import Graph

SMALL = EquiformerConfig(
    hidden=(16, 8, 4),
    layers=2,
    heads=2,
    head=(8, 4, 2),
    mlp=(32, 16, 8),
    features=32,
    gaussians=16,
    radial=(16, 16),
)


class EquiformerSuite(BackboneSuite):
    published = EquiformerConfig()
    mirror = False  # vectors are of even parity

    @pytest.mark.slow
    def test_overfits_sixteen_molecules(self):
        super().test_overfits_sixteen_molecules()

    def test_degrees_turn_with_the_molecule(self):
        model, graph = self.make(), self.graph()
        matrix = turn(torch.float64)
        with default_dtype(torch.float64):
            turns = [o3.Irrep(degree, 1).D_from_matrix(matrix) for degree in range(3)]
        before, _ = model.degrees(graph)
        after, _ = model.degrees(Graph.make(graph.z, graph.pos @ matrix.T, graph.ptr))
        for wigner, a, b in zip(turns, before, after, strict=True):
            assert_near(b, wigner @ a, 1e-10)
            assert float(a.detach().abs().max()) > 1e-3


class TestLinear(EquiformerSuite):
    config = SMALL
    smooth = False


class TestNonlinearWithEnvelope(EquiformerSuite):
    config = SMALL.model_copy(update={"messages": "nonlinear", "envelope": "polynomial"})
    test_a_thousand_atoms = None  # the published setting once
    test_compiled_equals_eager = None


def naive_features(model: Equiformer, graph: Graph) -> list[Tensor]:
    """What enters the last block and what it puts out, edge by edge from the equations; one molecule."""
    config, n = model.config, len(graph.z)
    near = [
        (i, j)
        for i in range(n)
        for j in range(n)
        if i != j and float((graph.pos[i] - graph.pos[j]).norm()) < config.cutoff
    ]
    edges = {}
    for i, j in near:
        r = graph.pos[j] - graph.pos[i]
        harmonics = o3.spherical_harmonics([0, 1, 2], r, normalize=True, normalization="component")
        basis, d = model.basis, r.norm() / config.cutoff
        x, width = basis.scale * d + basis.shift, basis.std.abs() + 1e-5
        rbf = torch.exp(-(((x - basis.mean) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
        envelope = 1 - 28 * d**6 + 48 * d**7 - 21 * d**8 if config.envelope == "polynomial" else 1.0
        edges[i, j] = ([harmonics[:1], harmonics[1:4], harmonics[4:]], rbf, envelope)

    def couple(x: list[Tensor], edge, weight: Tensor, top: int) -> list[Tensor]:
        out, place = [[] for _ in range(top + 1)], 0
        for a, b, c in paths(len(x), top):
            w = weight[place : place + x[a].shape[1]]
            place += len(w)
            product = torch.einsum("abc,au,b->cu", o3.wigner_3j(a, b, c), x[a], edge[0][b])
            out[c].append(math.sqrt(2 * c + 1) * product * w)
        return [torch.cat(blocks, 1) for blocks in out]

    def linear(layer, x: list[Tensor]) -> list[Tensor]:
        out = [part @ w for part, w in zip(x, layer.weight, strict=False)]
        return [out[0] + (0 if layer.bias is None else layer.bias), *out[1:]]

    def norm(layer, x: list[Tensor]) -> list[Tensor]:
        out = []
        for degree, (part, w) in enumerate(zip(x, layer.weight, strict=False)):
            centred = part - part.mean() if degree == 0 else part
            out.append(centred / torch.sqrt((centred**2).mean() + 1e-5) * w)
        return [out[0] + layer.bias, *out[1:]]

    def gate(x: list[Tensor], channels) -> list[Tensor]:
        first, *gates = x[0].split(channels, 1)
        return [
            SILU * silu(first),
            *(p * SIGMOID * torch.sigmoid(g) for p, g in zip(x[1:], gates, strict=True)),
        ]

    def attend(layer, x: list[list[Tensor]]) -> list[list[Tensor]]:
        top = len(layer.head) - 1
        scores, values = {}, {}
        for (i, j), edge in edges.items():
            both = [
                s + r for s, r in zip(linear(layer.source, x[j]), linear(layer.receiver, x[i]), strict=True)
            ]
            weight = layer.radial.net(edge[1])
            product = couple(both, edge, weight, 2 if layer.nonlinear else top)
            z = linear(layer.score, product[:1])[0].view(config.heads, -1)
            z = LEAKY * (0.6 * z + 0.4 * z * (2 * torch.sigmoid(z) - 1))
            scores[i, j] = (z * layer.direction).sum(1)
            if layer.nonlinear:
                message = gate(linear(layer.message, product), config.hidden)
                product = couple(message, edge, layer.second_weight[0], top)
            values[i, j] = linear(layer.value, product)
        out = []
        for i in range(n):
            heard = [e for e in edges if e[0] == i]
            total = sum(torch.exp(scores[e]) * edges[e][2] for e in heard)
            sums = [x[0][d].new_zeros(2 * d + 1, config.heads * c) for d, c in enumerate(layer.head)]
            for e in heard:
                share = torch.exp(scores[e]) * edges[e][2] ** 2 / total
                for degree, c in enumerate(layer.head):
                    for head in range(config.heads):
                        block = slice(head * c, (head + 1) * c)
                        sums[degree][:, block] = (
                            sums[degree][:, block] + share[head] * values[e][degree][:, block]
                        )
            out.append(linear(layer.project, sums))
        return out

    x = []
    for i in range(n):
        start = [torch.zeros(2 * degree + 1, c) for degree, c in enumerate(config.hidden)]
        start[0] = start[0] + model.embedding.weight[graph.z[i]]
        for (receiver, _), edge in edges.items():
            if receiver == i:
                embedding = model.degree_embedding
                ones = [torch.ones(1, config.hidden[0])]
                message = linear(embedding.project, couple(ones, edge, embedding.radial.net(edge[1]), 2))
                start = [
                    s + m * edge[2] / math.sqrt(MEAN_NEIGHBOURS) for s, m in zip(start, message, strict=True)
                ]
        x.append(start)
    for block in model.blocks:
        inner = x
        update = attend(block.attention, [norm(block.norm_attention, part) for part in x])
        x = [[a + b for a, b in zip(*pair, strict=False)] for pair in zip(x, update, strict=True)]
        mid = block.feed_forward.gate.channels
        forward = [
            linear(
                block.feed_forward.second,
                gate(linear(block.feed_forward.first, norm(block.norm_forward, p)), mid),
            )
            for p in x
        ]
        base = x if block.shortcut is None else [linear(block.shortcut, part) for part in x]
        x = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(base, forward, strict=True)]
    entering = [torch.stack([part[degree] for part in inner]) for degree in range(3)]
    return [*entering, model.norm(torch.stack([part[0][0] for part in x]))]


@pytest.mark.parametrize("messages", ["linear", "nonlinear"])
@pytest.mark.parametrize("envelope", ["none", "polynomial"])
def test_equals_the_equations_edge_by_edge(double, messages, envelope):
    torch.manual_seed(0)
    config = SMALL.model_copy(update={"messages": messages, "envelope": envelope, "cutoff": 3.0})
    model = Equiformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    graph = real_molecules(1, torch.float64)
    expected = naive_features(model, graph)
    found = [*model.degrees(graph)[0], model(graph)]
    for a, b in zip(found, expected, strict=True):
        assert_near(a, b, 1e-11)


def test_a_lone_pair_fades_at_the_cutoff(double):
    """A softmax gives a lone edge all its weight however far it is; the envelope must not."""
    torch.manual_seed(0)
    z, ptr = torch.tensor([6, 8]), torch.tensor([0, 2])
    for envelope, jumps in (("none", True), ("polynomial", False)):
        config = SMALL.model_copy(update={"envelope": envelope})
        model = Equiformer(config).eval()
        values = []
        for distance in (config.cutoff - 1e-4, config.cutoff + 1e-4):
            pos = torch.tensor([[0.0, 0, 0], [0, 0, distance]])
            values.append(model(Graph.make(z, pos, ptr)))
        assert (float((values[0] - values[1]).detach().abs().max()) > 1e-3) == jumps


def test_dropout_of_attention_obeys_the_recipe():
    torch.manual_seed(0)
    graph = real_molecules(2, torch.float32)
    model = make_backbone(SMALL).train()
    assert not torch.equal(model(graph), model(graph))
    still = make_backbone(SMALL, dropout=False).train()
    assert torch.equal(still(graph), still(graph))


def test_parameters_of_the_paper_setting():
    """312,243 in the paper's table: what its code has more than ours, line by line."""
    config = EquiformerConfig()
    (c0, c1, c2), width = config.hidden, config.radial[-1] + 1
    every = [sum(config.hidden[a] for a, _, c in paths(3, 2) if c == degree) for degree in range(3)]
    ours = sum(p.numel() for p in Equiformer(config).parameters())
    more = {
        "elements: 5 rows and a bias, ours 119 rows": 6 * c0 - 119 * c0,
        "degree embedding: its constant start, a factor of the path weights": 2 * c0,
        "degree embedding: path weights of vectors, which are zero": width * (sum(every) - 3 * c0),
        "degree embedding: map of products of vectors, which are zero": (
            (every[0] - c0) * c0 + (every[1] - c0) * c1 + (every[2] - c0) * c2
        ),
        "last block: path weights of vectors, which are not read": width * (every[1] + every[2]),
        "last block: values of vectors": 2 * (every[1] * config.head[1] + every[2] * config.head[2]),
        "last block: projection of vectors": 2 * (config.head[1] * c1 + config.head[2] * c2),
        "last block: norm of vectors": c1 + c2,
        "last block: gates and vectors of the feed forward": (
            (c0 + 1) * (config.mlp[1] + config.mlp[2]) + c1 * config.mlp[1] + c2 * config.mlp[2]
        ),
        "the authors' head": config.features**2 + config.features + config.features + 1,
    }
    assert ours == 227_426
    assert ours + sum(more.values()) == 312_243
