"""Compiled loops over pairs equal the tensor operations in value and gradient, for any number of threads."""

from __future__ import annotations

import pytest
import torch
from model_batches import real_molecules

from mmgnn_dist.models.backbones.angular_density import NeighbourSlots, neighbour_sums
from mmgnn_dist.models.backbones.dimenetpp import SphericalWaves
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
