"""Factory of backbones: from the section of a recipe to the network."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from mmgnn_dist.config import BackboneConfig
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.backbones.base import Backbone
from mmgnn_dist.models.backbones.state_embedding import StateEmbedding


def make_backbone(config: BackboneConfig, dropout: bool = True, states: bool = False) -> Backbone:
    """Build the backbone of a recipe, with fresh weights from torch's random state.

    Args:
        config: section `model.backbone` of the recipe; its `module` names the class of the network.
        dropout: False turns off every dropout of the section.
        states: add the embedding of charge and multiplicity.

    Raises:
        UserError: if the class is not a backbone, if its vectors do not agree with `has_vectors` of the
            section, or if it does not read charge and multiplicity although `reads_state` says so.
    """
    module, _, name = config.module.partition(":")
    kind = getattr(import_module(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, Backbone)):
        raise UserError(
            f"backbone '{config.name}': {config.module} is not a subclass of mmgnn_dist's Backbone; fix the "
            f"class variable 'module' of {type(config).__name__}"
        )
    build: Callable[[BackboneConfig], Backbone] = kind
    backbone = build(config if dropout else config.without_dropout())
    if bool(backbone.vector_width) != config.has_vectors:
        raise UserError(
            f"backbone '{config.name}' has {backbone.vector_width} vectors per atom, but "
            f"{type(config).__name__}.has_vectors={config.has_vectors}: fix has_vectors"
        )
    if states:
        if not backbone.start_width:
            raise UserError(
                f"backbone '{config.name}' does not read charge and multiplicity, but "
                f"{type(config).__name__}.reads_state={config.reads_state}: fix reads_state, or set "
                "start_width and call with_state"
            )
        backbone.state = StateEmbedding(backbone.start_width)
    return backbone
