"""Compiled loops over pairs equal the tensor operations in value and gradient, for any number of threads."""

from __future__ import annotations

import pytest
import torch
from model_batches import real_molecules

from mmgnn_dist.config import EquiformerConfig
from mmgnn_dist.models.backbones.angular_density import NeighbourSlots, neighbour_sums
from mmgnn_dist.models.backbones.dimenetpp import SphericalWaves
from mmgnn_dist.models.backbones.equiformer import Attention, Equiformer
from mmgnn_dist.models.backbones.pairs import pair_loop
from mmgnn_dist.models.backbones.pairs.chain_loop import NeighbourLists
from mmgnn_dist.models.backbones.pairs.painn_messages import exchange_vectors
from mmgnn_dist.models.backbones.pairs.radial_table import RadialGrid
from mmgnn_dist.models.backbones.pairs.table_messages import table_messages
from mmgnn_dist.models.graph import Graph, edge_vectors, edges_within, pairs_within

pytest.importorskip("numba")
CHANNELS = 5


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def both(call, inputs, monkeypatch):
    """Results and gradients of a call by compiled loops, and by tensor operations."""
    found = []
    monkeypatch.setattr(pair_loop, "WORTH_COMPILING", 0)
    for loops in (True, False):
        monkeypatch.setattr(pair_loop, "_numba", lambda loops=loops: loops)
        outs = call()
        outs = outs if isinstance(outs, tuple) else (outs,)
        torch.manual_seed(1)
        loss = sum((out * torch.randn_like(out)).sum() for out in outs)
        found.append([*outs, *torch.autograd.grad(loss, inputs)])
    return zip(*found, strict=True)


@pytest.mark.usefixtures("threads")
def test_tabulated_filters(monkeypatch):
    graph = real_molecules(9, torch.float32)
    i, j, distance = pairs_within(graph, 4.0)
    grid, envelope = RadialGrid(4.0, 0.5), torch.rand(len(i))
    source = torch.randn(len(graph.z), CHANNELS, requires_grad=True)
    filters = torch.randn(grid.count, CHANNELS, requires_grad=True)

    def call():
        return table_messages(grid, distance, envelope, i, j, graph)(source, filters)

    for loop, tensors in both(call, (source, filters), monkeypatch):
        torch.testing.assert_close(loop, tensors, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("threads")
def test_scalars_and_vectors(monkeypatch):
    graph = real_molecules(9, torch.float32)
    i, j, distance = pairs_within(graph, 4.0)
    unit = (edge_vectors(graph, i, j) / distance.unsqueeze(-1)).unsqueeze(-1)
    atoms = len(graph.z)
    context = torch.randn(atoms, 3 * CHANNELS, requires_grad=True)
    v = torch.randn(atoms, 3, CHANNELS, requires_grad=True)
    weight = torch.randn(len(i), 3 * CHANNELS, requires_grad=True)

    def call():
        return exchange_vectors(context, v, weight, unit, i, j, graph)

    for loop, tensors in both(call, (context, v, weight), monkeypatch):
        torch.testing.assert_close(loop, tensors, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("orders", [1, 3, 7])
def test_chains_of_two_edges(orders, monkeypatch):
    graph = real_molecules(9, torch.float32)
    i, j = edges_within(graph, 4.0)
    vector = edge_vectors(graph, i, j)
    distance = vector.norm(dim=-1)
    radial = SphericalWaves(orders, 2)(distance / 4.0)
    sent = torch.randn(len(i), CHANNELS, requires_grad=True)
    weights = torch.randn(orders, 2, CHANNELS, requires_grad=True)

    def call():
        sums = neighbour_sums(i, j, vector / distance.unsqueeze(-1), radial, graph, CHANNELS)
        kinds.append(type(sums))
        return sums.chains(sent, weights)

    kinds: list[type] = []
    for loop, tensors in both(call, (sent, weights), monkeypatch):
        torch.testing.assert_close(loop, tensors, rtol=1e-5, atol=1e-5 * float(tensors.detach().abs().max()))
    assert kinds == [NeighbourLists, NeighbourSlots]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("messages", "degrees"), [("linear", 3), ("nonlinear", 3), ("linear", 1)])
def test_attention_over_three_degrees(messages, degrees, monkeypatch):
    """Products, also with one weight for all edges, and values that are mapped after their sum."""
    torch.manual_seed(0)
    widths = {"hidden": (5, 3, 2), "heads": 2, "head": (3, 2, 1), "radial": (4, 4), "gaussians": 4}
    config = EquiformerConfig(**widths, messages=messages, envelope="polynomial", features=4, cutoff=4.0)
    attention = Attention(config, degrees).eval()  # without dropout
    torch.nn.init.normal_(attention.value.bias)
    graph = real_molecules(9, torch.float32)
    edges = Equiformer(config).edges(graph)
    edges.basis = edges.basis.detach()
    features = [
        torch.randn(edges.atoms, 2 * degree + 1, width, requires_grad=True)
        for degree, width in enumerate(config.hidden)
    ]
    inputs = [*features, *attention.parameters()]
    for loop, tensors in both(lambda: tuple(attention(features, edges)), inputs, monkeypatch):
        torch.testing.assert_close(loop, tensors, rtol=1e-5, atol=2e-5 * float(tensors.detach().abs().max()))


def test_products_that_are_asked_for_position_gradients_are_tensor_operations(monkeypatch):
    """The loops have no gradient with respect to the matrices of the edges: a part would be missing."""
    torch.manual_seed(0)
    config = EquiformerConfig(hidden=(4, 2, 2), layers=2, heads=1, head=(2, 2, 2), features=4)
    model, graph = Equiformer(config).eval(), real_molecules(2, torch.float32)
    graph.pos.requires_grad_()
    for loop, tensors in both(lambda: model(graph), [graph.pos], monkeypatch):
        assert torch.equal(loop, tensors) and tensors.abs().max() > 0


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_parts_end_between_molecules(parts, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: parts)
    graph = real_molecules(5, torch.float32)
    i, j, _ = pairs_within(graph, 4.0)
    slices = pair_loop.pair_parts(graph, i)
    assert len(slices) == parts
    assert torch.equal(torch.cat([i[part] for part in slices]), i)
    atoms = [set(torch.cat([i[part], j[part]]).tolist()) for part in slices]
    assert sum(map(len, atoms)) == len(set.union(*atoms))
    alone = Graph.make(graph.z[:1], graph.pos[:1], torch.tensor([0, 1]))
    assert pair_loop.pair_parts(alone, i[:0]) == [slice(0, 0)]
