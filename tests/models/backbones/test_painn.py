"""PaiNN: the suite of all backbones, its equations written naively, published size."""

from __future__ import annotations

import math

import pytest
import torch
from backbone_suite import BackboneSuite, assert_near
from model_batches import real_molecules
from torch.nn.functional import silu

from mmgnn_dist.config import PaiNNConfig
from mmgnn_dist.models.backbones.painn import PaiNN


class TestPaiNN(BackboneSuite):
    config = PaiNNConfig(hidden=32, interactions=2)
    published = PaiNNConfig()

    @pytest.mark.parametrize("basis", ["bessel", "gaussian"])
    def test_equals_the_equations(self, basis, monkeypatch):
        """Atom by atom and neighbour by neighbour, from the paper's formulas."""
        monkeypatch.setattr(type(self), "config", PaiNNConfig(hidden=8, interactions=2, basis=basis))
        model, graph = self.make(), real_molecules(2, torch.float64)
        found = model.features(graph)
        s, v = naive(model, graph)
        assert_near(found.scalars, s, 1e-12)
        assert_near(found.vectors, v, 1e-12)


def naive(model: PaiNN, graph):
    config, atoms, h = model.config, range(len(graph.z)), model.config.hidden
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def lin(name, x):
        return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0.0)

    def basis(d):
        n = torch.arange(1, config.radial + 1).double()
        if config.basis == "bessel":
            return torch.sin(n * math.pi * d / config.cutoff) / d
        step = config.cutoff / (config.radial - 1)
        return torch.exp(-((d - (n - 1) * step) ** 2) / (2 * step**2))

    s = [weights["embedding.weight"][number] for number in graph.z]
    v = [torch.zeros(3, h, dtype=torch.float64) for _ in atoms]
    for k in range(config.interactions):
        new_s, new_v = list(s), list(v)
        for i in atoms:
            for j in atoms:
                r = graph.pos[j] - graph.pos[i]
                d = float(r.norm())
                if i == j or graph.molecule[i] != graph.molecule[j] or d >= config.cutoff:
                    continue
                message = f"messages.{k}"
                phi = lin(f"{message}.context.2", silu(lin(f"{message}.context.0", s[j])))
                fcut = 0.5 * (math.cos(math.pi * d / config.cutoff) + 1.0)
                a = phi * lin(f"{message}.filter", basis(d)) * fcut
                new_s[i] = new_s[i] + a[:h]
                new_v[i] = new_v[i] + torch.outer(r / d, a[h : 2 * h]) + a[2 * h :] * v[j]
        s, v = new_s, new_v
        for i in atoms:
            mixed = weights[f"updates.{k}.mix.weight"] @ v[i].T  # [2 H, 3]
            left, right = mixed[:h].T, mixed[h:].T
            norm = torch.sqrt((left**2).sum(0) + 1e-8)
            update = f"updates.{k}.context"
            b = lin(f"{update}.2", silu(lin(f"{update}.0", torch.cat([s[i], norm]))))
            s[i] = s[i] + b[:h] + b[2 * h :] * (left * right).sum(0)
            v[i] = v[i] + b[h : 2 * h] * right
    return torch.stack(s), torch.stack(v)


def test_parameters_of_the_published_setting():
    """Layer by layer; 589,057 with the 100 embedding rows and the head of schnetpack (the paper: 600 k)."""
    count = sum(p.numel() for p in PaiNN(PaiNNConfig()).parameters())
    layer = (20 * 384 + 384) + (128 * 128 + 128 + 128 * 384 + 384)  # filter, context of the message
    layer += 128 * 256 + (256 * 128 + 128 + 128 * 384 + 384)  # mixing, context of the update
    assert count == 119 * 128 + 3 * layer
    assert count - 19 * 128 + (128 * 64 + 64 + 64 + 1) == 589_057
