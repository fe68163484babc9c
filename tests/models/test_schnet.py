"""SchNet: the suite of all backbones, PyG's module, saved reference values, published size."""

from __future__ import annotations

import math

import pytest
import torch
from backbone_suite import BackboneSuite
from conftest_models import random_molecules
from safetensors.torch import load_file
from torch_geometric.nn.models import SchNet as PygSchNet

from mmgnn_dist.config import SchNetConfig
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.schnet import SchNet


def from_pyg(model: SchNet, weights: dict[str, torch.Tensor]) -> SchNet:
    """Put weights under PyG's names into our backbone."""
    own = {"embedding.weight": torch.zeros_like(model.embedding.weight)}
    own["embedding.weight"][:100] = weights["embedding.weight"]
    own["smearing.offset"] = weights["distance_expansion.offset"]
    names = {
        "filter.0": "mlp.0", "filter.2": "mlp.2", "inward": "conv.lin1",
        "outward.0": "conv.lin2", "outward.2": "lin",
    }  # fmt: skip
    for k in range(model.config.interactions):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                key = f"interactions.{k}.{theirs}.{kind}"
                if key in weights:
                    own[f"interactions.{k}.{ours}.{kind}"] = weights[key]
    model.load_state_dict(own)
    return model


def head(weights: dict[str, torch.Tensor], h: torch.Tensor, graph: Graph) -> torch.Tensor:
    """PyG's read-out: Lin, ssp, Lin, sum over atoms."""
    inner = torch.nn.functional.softplus(h @ weights["lin1.weight"].T + weights["lin1.bias"]) - math.log(2.0)
    atom = inner @ weights["lin2.weight"].T + weights["lin2.bias"]
    return torch.zeros(graph.size, 1, dtype=h.dtype).index_add(0, graph.molecule, atom).squeeze(-1)


class OwnGraph(torch.nn.Module):
    """PyG's own neighbour search needs an extension: brute force instead."""

    def forward(self, pos, molecule):
        distance = torch.cdist(pos, pos)
        near = (
            (distance < 5.0) & (molecule[:, None] == molecule[None]) & ~torch.eye(len(pos), dtype=torch.bool)
        )
        edge = near.nonzero().T
        return edge, (pos[edge[0]] - pos[edge[1]]).norm(dim=-1)


def test_equals_pyg_with_copied_weights(double):
    torch.manual_seed(1)
    reference = PygSchNet(
        hidden_channels=24,
        num_filters=16,
        num_interactions=2,
        num_gaussians=12,
        cutoff=5.0,
        interaction_graph=OwnGraph(),
    ).double()
    model = from_pyg(
        SchNet(SchNetConfig(hidden=24, filters=16, interactions=2, gaussians=12, cutoff=5.0)).double(),
        reference.state_dict(),
    )
    z, pos, ptr = random_molecules([7, 1, 12, 3])
    pos.requires_grad_()
    graph = Graph.make(z, pos, ptr)
    expected = reference(z, pos, graph.molecule).squeeze(-1)
    found = head(reference.state_dict(), model(graph), graph)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(y.sum(), pos, retain_graph=True)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


@pytest.mark.shared
def test_equals_reference_values(double, shared):
    golden = shared / "data" / "golden"
    weights, io = (
        load_file(golden / "schnet_pyg.safetensors"),
        load_file(golden / "schnet_pyg_io.safetensors"),
    )
    molecules = load_file(golden / "molecules.safetensors")
    model = SchNet(SchNetConfig(hidden=32, filters=48, interactions=3, gaussians=25, cutoff=5.0))
    from_pyg(model, weights)
    pos = molecules["pos"].double().requires_grad_()
    graph = Graph.make(molecules["z"], pos, molecules["ptr"])
    h = model(graph)
    y = head(weights, h, graph)
    torch.testing.assert_close(h, io["h_atom"], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(y, io["y"], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), pos)[0], io["grad_pos"], rtol=1e-8, atol=1e-10)


class TestSchNet(BackboneSuite):
    config = SchNetConfig(hidden=32, filters=32, interactions=3, gaussians=25, cutoff=5.0)
    published = SchNetConfig()


def test_parameters_of_the_published_setting():
    """455,809 in the paper's table: 100 embedding rows (ours 119) and PyG's read-out of 128 → 64 → 1."""
    count = sum(p.numel() for p in SchNet(SchNetConfig()).parameters())
    assert count - 19 * 128 + (128 * 64 + 64 + 64 + 1) == 455_809
