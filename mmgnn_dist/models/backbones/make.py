"""The backbone that a recipe names."""

from __future__ import annotations

from mmgnn_dist.config import Backbone as BackboneConfig
from mmgnn_dist.config import DimeNetPPConfig, EquiformerConfig, FAENetConfig, PaiNNConfig, SchNetConfig
from mmgnn_dist.models.backbones.base import Backbone
from mmgnn_dist.models.backbones.dimenetpp import DimeNetPP
from mmgnn_dist.models.backbones.equiformer import Equiformer
from mmgnn_dist.models.backbones.faenet import FAENet
from mmgnn_dist.models.backbones.painn import PaiNN
from mmgnn_dist.models.backbones.schnet import SchNet


def make_backbone(config: BackboneConfig, dropout: bool = True) -> Backbone:
    """The backbone that a recipe names, with fresh weights from torch's random state.

    Args:
        config: its section of the recipe.
        dropout: false leaves out every dropout that the section asks for.
    """
    match config:
        case SchNetConfig():
            return SchNet(config)
        case PaiNNConfig():
            return PaiNN(config)
        case DimeNetPPConfig():
            return DimeNetPP(config)
        case EquiformerConfig():
            return Equiformer(config if dropout else config.model_copy(update={"attention_dropout": 0.0}))
        case FAENetConfig():
            return FAENet(config)
