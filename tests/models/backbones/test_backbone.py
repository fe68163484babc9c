"""The backbones of the shipped recipes, and each backbone inside the fused model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from model_batches import batch_of

from mmgnn_dist.config import load_recipe
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.fused import FusedModel

RECIPES = Path(__file__).parents[3] / "launch" / "backbones"
HIDDEN = {"schnet": 16, "painn": 16, "dimenetpp": 16, "equiformer": [8, 4, 2], "faenet": 24}


def small(name: str) -> list[str]:
    """Overrides for a backbone at a test width."""
    return ["model.modality=graph", f"model.backbone.name={name}", f"model.backbone.hidden={HIDDEN[name]}"]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_says_how_many_parameters_its_backbone_has(path):
    said = re.search(r"# ([\d,]+) parameters", path.read_text(encoding="utf-8"))
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    count = sum(p.numel() for p in make_backbone(recipe.model.backbone).parameters())
    assert said and int(said[1].replace(",", "")) == count


@pytest.mark.parametrize("name", HIDDEN)
def test_fused_model_takes_every_backbone(name):
    """Also a batch without a single edge leaves no parameter without a gradient: ranks would wait."""
    model = FusedModel(load_recipe(None, small(name)), ["mean", "sum"], None)
    for sizes in ([3, 1, 5], [1, 1]):
        model.zero_grad()
        scaled, _ = model(batch_of(sizes, [[]] * len(sizes)))
        assert scaled.shape == (len(sizes), 2)
        scaled.square().sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", HIDDEN)
def test_weights_follow_torchs_seed(name):
    config = load_recipe(None, small(name)).model.backbone
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.detach().flatten() for p in make_backbone(config).parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
