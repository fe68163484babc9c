"""The graph-only model as large as the fused one: its count, its shape, and when there is none."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.errors import UserError
from mmgnn_dist.models import matched
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.matched import match_width, trainable

FORMS = ["mean", "sum"]
BACKBONES = {
    "schnet": "{name: schnet, hidden: 64, filters: 48, interactions: 2}",
    "painn": "{name: painn, hidden: 64, interactions: 2}",
    "dimenetpp": "{name: dimenetpp, hidden: 32, triplet: 16, basis: 8, output: 64, blocks: 1, spherical: 3}",
    "equiformer": "{name: equiformer, layers: 2}",
    "faenet": "{name: faenet, hidden: 64, filters: 32, interactions: 2}",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> EncoderFiles:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=200, hidden_size=48, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96
    )
    BertModel(config).save_pretrained(folder)
    return EncoderFiles("tiny", folder, None)


@pytest.fixture
def found(tiny, monkeypatch):
    """Match a recipe's width with the tiny encoder in place of the recipe's."""
    monkeypatch.setattr(matched, "resolve_encoder", lambda name, revision, random: tiny)

    def match(*words: str):
        return match_width(load_recipe(None, ["model.modality=width_matched", *words]), FORMS)

    return match


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_the_count_is_reached_within_two_percent(found, tiny, backbone, mode):
    """Both counts are taken again from the models; of the encoder counts what its mode trains."""
    words = [f"model.backbone={BACKBONES[backbone]}", f"text.mode={mode}", "model.context=true"]
    result = found(*words)
    both = FusedModel(load_recipe(None, words), FORMS, TextSource(tiny, (2, 3)))
    text = sum(p.numel() for p in both.encoder.parameters())
    adapters = sum(p.numel() for name, p in both.encoder.named_parameters() if "lora_" in name)
    own = sum(p.numel() for name, p in both.named_parameters() if not name.startswith("encoder"))
    assert result.wanted == own + {"frozen": 0, "lora": adapters, "full": text}[mode] == trainable(both)
    model = FusedModel(result.recipe, FORMS, None)
    assert trainable(model) == result.parameters == pytest.approx(result.wanted, rel=0.02)
    assert model.encoder is None and model.context is None
    kept = load_recipe(None, words).model.backbone
    assert type(result.recipe.model.backbone).model_validate(result.recipe.model.backbone.model_dump())
    changed = {name for name, value in result.recipe.model.backbone if value != getattr(kept, name)}
    assert changed and changed <= set(kept.widths)


@pytest.mark.parametrize("fusion", ["gate", "concat", "film", "cross_attention", "gate_paper"])
def test_every_fusion_has_its_control(found, fusion):
    result = found(f"model.backbone={BACKBONES['schnet']}", f"model.fusion={fusion}", "text.mode=lora")
    assert result.parameters == pytest.approx(result.wanted, rel=0.02)


def test_a_backbone_too_narrow_is_refused(found):
    with pytest.raises(UserError, match=r"one channel more .* model.backbone.hidden"):
        found("model.backbone={name: painn, hidden: 4, interactions: 1}", "text.mode=frozen")
