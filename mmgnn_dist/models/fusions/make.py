"""Factory of fusions: from the section of a recipe to the module."""

from __future__ import annotations

from mmgnn_dist.config import ModelConfig
from mmgnn_dist.config.choices import load_class
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.fusions.base import Fusion


def make_fusion(config: ModelConfig, width: int, dropout: float) -> Fusion:
    """Build the fusion of a recipe.

    Args:
        config: section `model` of the recipe.
        width: H, the width of the atom vectors.
        dropout: dropout of the fused vectors.

    Raises:
        UserError: if a plugin's fusion cannot be used.
    """
    kind = load_class("fusions", config.fusion, Fusion)  # type: ignore[type-abstract]
    return kind.build(config, width, dropout)


def check_fusion(fusion: Fusion, config: ModelConfig, mode: str) -> None:
    """Check that a fusion fits the rest of the recipe; the recipe itself can only check built-in fusions.

    Args:
        fusion: the fusion that was built.
        config: section `model` of the recipe.
        mode: `text.mode` of the recipe.

    Raises:
        UserError: if the fusion does not fit.
    """
    name = f"model.fusion={config.fusion}"
    if config.reads_text and not fusion.text_width:
        raise UserError(f"{name} never reads text (text_width=0): use it with model.modality=graph")
    if config.reads_text and fusion.reads_tokens and mode == "frozen":
        raise UserError(f"{name} reads the states of all tokens: use text.mode=lora or full")
    if fusion.pooled and config.readout:
        raise UserError(f"{name} reads every target from one vector per molecule: remove model.readout")
