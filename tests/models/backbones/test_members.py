"""What every backbone that a recipe may name says of itself is what the system needs, and is true."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import pytest
from pydantic import Field

from mmgnn_dist.config import BackboneConfig, ModelConfig, load_recipe
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.matched import widen

MEMBERS = get_args(ModelConfig.model_fields["backbone"].annotation)


def test_all_backbones_are_members():
    assert {kind.__name__ for kind in MEMBERS} >= {kind.__name__ for kind in BackboneConfig.__subclasses__()}


@pytest.mark.parametrize("kind", MEMBERS, ids=lambda kind: kind.__name__)
def test_what_a_backbone_says_of_itself_is_true(kind):
    config = kind()
    assert load_recipe(None, [f"model.backbone.name={config.name}"]).model.backbone == config
    backbone = make_backbone(config)
    assert backbone.width > 0
    assert bool(backbone.vector_width) is config.has_vectors
    assert 0 < config.cost_rate < 10
    wider = widen(config, 2.0)
    for key, value in config:
        expected = value
        if key in config.widths:
            expected = tuple(2 * v for v in value) if isinstance(value, tuple) else 2 * value
        assert getattr(wider, key) == expected
    assert sum(p.numel() for p in make_backbone(wider).parameters()) > 1.9 * sum(
        p.numel() for p in backbone.parameters()
    )
    dropouts = [module.p for module in make_backbone(config, dropout=False).modules() if hasattr(module, "p")]
    assert not any(dropouts)


@pytest.mark.parametrize(
    ("left_out", "told"),
    [("module", "'module'"), ("cost_rate", "'cost_rate'"), ("widths", "'widths'")],
)
def test_a_backbone_cannot_be_defined_by_half(left_out, told):
    said = {"module": "a:B", "cost_rate": 0.5, "widths": ("hidden",)}
    kinds = {"module": ClassVar[str], "cost_rate": ClassVar[float], "widths": ClassVar[tuple[str, ...]]}
    del said[left_out], kinds[left_out]
    keys = {"name": "half", "hidden": Field(4, ge=1)}
    annotations = {"name": Literal["half"], "hidden": int, **kinds}
    with pytest.raises(TypeError, match=told):
        type("HalfConfig", (BackboneConfig,), {"__annotations__": annotations, **keys, **said})


def test_widths_that_are_no_keys_are_refused():
    with pytest.raises(TypeError, match="cutoff, depth"):

        class WrongConfig(BackboneConfig):
            module: ClassVar[str] = "a:B"
            cost_rate: ClassVar[float] = 0.5
            widths: ClassVar[tuple[str, ...]] = ("hidden", "cutoff", "depth")

            name: Literal["wrong"] = "wrong"
            hidden: int = 4
            cutoff: float = 5.0
