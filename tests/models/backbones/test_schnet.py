"""SchNet: the suite of all backbones, PyG's module with copied weights, published size."""

from __future__ import annotations

import torch
from backbone_suite import BackboneSuite
from golden import PYG_HEAD, PYG_SCHNET, Atomwise, WithHead, compare, schnet_mapping
from model_batches import real_molecules
from torch_geometric.nn.models import SchNet as PygSchNet
from torch_geometric.nn.models.schnet import ShiftedSoftplus

from mmgnn_dist.config import SchNetConfig
from mmgnn_dist.models.backbones.schnet import SchNet


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
    )
    body = SchNet(SchNetConfig(hidden=24, filters=16, interactions=2, gaussians=12, cutoff=5.0))
    model = WithHead(body, Atomwise(24, ShiftedSoftplus()), body)
    graph = real_molecules(6, torch.float64)
    graph.pos.requires_grad_()
    mapping = schnet_mapping(2, "", PYG_SCHNET) | PYG_HEAD
    compare(
        model, reference, mapping, graph, lambda: reference(graph.z, graph.pos, graph.molecule).squeeze(-1)
    )


class TestSchNet(BackboneSuite):
    config = SchNetConfig(hidden=32, filters=32, interactions=3, gaussians=25, cutoff=5.0)
    published = SchNetConfig()


def test_parameters_of_the_published_setting():
    """455,809 in the paper's table: 100 embedding rows (ours 119) and PyG's read-out of 128 → 64 → 1."""
    count = sum(p.numel() for p in SchNet(SchNetConfig()).parameters())
    assert count - 19 * 128 + (128 * 64 + 64 + 64 + 1) == 455_809
