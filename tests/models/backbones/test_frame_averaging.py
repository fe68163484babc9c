"""Frames: exact where the axes are unique, finite and of small effect where they are not."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch
from backbone_suite import assert_near, turn
from model_batches import real_molecules
from torch import Tensor

from mmgnn_dist.config import FAENetConfig
from mmgnn_dist.models.backbones.faenet import FAENet
from mmgnn_dist.models.backbones.frame_averaging import GAP, axes, in_frames
from mmgnn_dist.models.graph import Graph, sum_molecules

pytestmark = pytest.mark.usefixtures("double")
CONFIG = FAENetConfig(hidden=48, filters=32, interactions=2, gaussians=16, cutoff=5.0)


def model_of(frames: str) -> FAENet:
    torch.manual_seed(0)
    return FAENet(CONFIG.model_copy(update={"frames": frames}))


def gaps(graph: Graph) -> Tensor:
    """Smallest relative distance of two eigenvalues of each molecule's covariance, [B]; one atom: 0."""
    values = sum_molecules(in_frames(graph, "one")[0].square(), graph)
    return (values[:, :2] - values[:, 1:]).amin(-1) / values[:, 0].clamp(min=1e-12)


def spread(model: FAENet, graph: Graph, turns: int, stored: torch.dtype = torch.float64) -> Tensor:
    """Largest change of an atom vector of each molecule under some rotations, [B].

    Turned positions pass through the type `stored`, as they do in a shard.
    """
    with torch.no_grad():
        first = model(graph)
        change = torch.zeros(len(graph.z))
        for _ in range(turns):
            pos = (graph.pos @ turn(torch.float64).T).to(stored).double()
            found = model(Graph.make(graph.z, pos, graph.ptr))
            change = torch.maximum(change, (found - first).abs().amax(-1))
    return torch.stack([change[a:b].max() for a, b in graph.ptr.unfold(0, 2, 1).tolist()])


def methane(length: float = 1.09) -> Graph:
    corners = torch.tensor([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    return Graph.make(torch.tensor([6, 1, 1, 1, 1]), corners * length / 3**0.5, torch.tensor([0, 5]))


def test_axes_are_principal():
    graph = real_molecules(20, torch.float64)
    centred, columns = axes(graph)
    for b, (start, end) in enumerate(graph.ptr.unfold(0, 2, 1).tolist()):
        turned = centred[start:end] @ columns[b]
        torch.testing.assert_close(columns[b].T @ columns[b], torch.eye(3))
        product = turned.T @ turned
        assert_near(product, torch.diag(product.diag()), 1e-12)
        assert product[0, 0] >= product[1, 1] >= product[2, 2]


def test_full_frames_are_all_sign_choices():
    graph = real_molecules(3, torch.float64)
    pos = in_frames(graph, "full")
    assert pos.shape == (8, len(graph.z), 3)
    assert len({tuple(row) for row in (pos[:, 0] > 0).int().tolist()}) == 8
    torch.testing.assert_close(pos.abs(), pos[:1].abs().expand_as(pos))


def test_invariant_where_axes_are_unique():
    graph = real_molecules(120, torch.float64)
    apart = gaps(graph) > GAP
    change = spread(model_of("full"), graph, turns=1)
    print(f"{int(apart.sum())} molecules with unique axes: change of {float(change[apart].max()):.0e}")
    assert int(apart.sum()) > 110
    assert float(change[apart].max()) < 1e-10


@pytest.mark.shared
def test_effect_on_symmetric_molecules(shared):
    """All molecules of QM9 whose axes are not unique: finite, and the size of the effect."""
    table = pq.read_table(shared / "data/qm9/qm9.parquet", columns=["atomic_numbers", "positions"])
    numbers, places = (table[name].combine_chunks() for name in ("atomic_numbers", "positions"))
    z, ptr = (torch.tensor(part.to_numpy().astype("int64")) for part in (numbers.flatten(), numbers.offsets))
    pos = torch.tensor(places.flatten().to_numpy(), dtype=torch.float64).view(-1, 3)
    chosen = (gaps(Graph.make(z, pos, ptr)) <= GAP).nonzero()[:, 0].tolist()
    parts = [slice(int(ptr[b]), int(ptr[b + 1])) for b in chosen]
    graph = Graph.make(
        torch.cat([z[at] for at in parts]),
        torch.cat([pos[at] for at in parts]).requires_grad_(),
        torch.tensor([0, *(at.stop - at.start for at in parts)]).cumsum(0),
    )
    assert len(parts) == 88
    model = model_of("full")
    h = model(graph)
    assert h.isfinite().all() and torch.autograd.grad(h.sum(), graph.pos)[0].isfinite().all()
    scale = float(h.detach().std())
    for stored in (torch.float64, torch.float32):
        change = spread(model, graph, turns=3, stored=stored) / scale
        print(
            f"{len(parts)} of {len(ptr) - 1} molecules have no unique axes; turned, positions as {stored}, "
            f"atom vectors change by {float(change.median()):.0e} (median) to {float(change.max()):.0e} "
            "(at most) of their deviation"
        )
        assert float(change.max()) < 1


def test_effect_on_exact_methane():
    graph = methane()
    graph.pos.requires_grad_()
    model = model_of("full")
    h = model(graph)
    assert h.isfinite().all() and torch.autograd.grad(h.sum(), graph.pos)[0].isfinite().all()
    change = float(spread(model, graph, turns=20)) / float(h.detach().std())
    print(f"exactly tetrahedral methane: turned, atom vectors change by {change:.0e} of their deviation")
    assert 1e-6 < change < 1


def test_stochastic_draws_one_frame_in_training_and_takes_all_when_evaluated():
    graph, full, model = real_molecules(4, torch.float64), model_of("full"), model_of("stochastic")
    everything = full(graph)
    model.eval()
    assert torch.equal(model(graph), everything)
    model.train()
    torch.manual_seed(1)
    first, second = model(graph), model(graph)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(model(graph), first)
    # what is drawn for a molecule is one of its eight frames
    layers = full.layers(graph, full.positions(graph))
    assert full.mix is not None
    single = full.mix(torch.cat(layers, -1))
    for a, b in graph.ptr.unfold(0, 2, 1).tolist():
        assert float((single[:, a:b] - first[a:b]).detach().abs().amax((1, 2)).min()) < 1e-12


def test_without_frames_not_invariant():
    graph = real_molecules(4, torch.float64)
    assert float(spread(model_of("none"), graph, turns=1).min()) > 1e-3
