"""The backbone that a recipe names."""

from __future__ import annotations

from importlib import import_module

from mmgnn_dist.config import BackboneConfig
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.backbones.base import Backbone


def make_backbone(config: BackboneConfig, dropout: bool = True) -> Backbone:
    """The backbone that a recipe names, with fresh weights from torch's random state.

    Args:
        config: its section of the recipe; its `module` says where the class of the network stands.
        dropout: false leaves out every dropout that the section asks for.

    Raises:
        UserError: if the class is no backbone, or has vectors that its settings deny, or the other way round.
    """
    module, _, name = config.module.partition(":")
    kind = getattr(import_module(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, Backbone)):
        raise UserError(
            f"backbone '{config.name}': {config.module} is no subclass of mmgnn_dist's Backbone; mend the "
            f"class variable 'module' of {type(config).__name__}"
        )
    backbone: Backbone = kind(config if dropout else config.without_dropout())
    if bool(backbone.vector_width) != config.has_vectors:
        raise UserError(
            f"backbone '{config.name}' is built with {backbone.vector_width} vectors an atom, and "
            f"{type(config).__name__}.has_vectors={config.has_vectors}: mend it"
        )
    return backbone
