"""The recipe: everything that decides what a run computes, typed and checked before anything loads.

A recipe is a YAML file (see `launch/`). Overrides `key=value` replace its values by dotted key
(`train.optim.lr=3e-4`). The canonical form is written into the run directory. An unknown key is an error that
names the nearest valid key.
"""

from mmgnn_dist.config.backbone_base import BackboneConfig
from mmgnn_dist.config.backbones import (
    ELEMENT_PROPERTIES,
    DimeNetPPConfig,
    EquiformerConfig,
    FAENetConfig,
    PaiNNConfig,
    SchNetConfig,
)
from mmgnn_dist.config.choices import Backbone, backbone_configs
from mmgnn_dist.config.data import ConformerConfig, DataConfig, Declared, PubChemConfig, TargetConfig
from mmgnn_dist.config.load import load_recipe, load_stored_recipe
from mmgnn_dist.config.model import ModelConfig
from mmgnn_dist.config.recipe import Recipe
from mmgnn_dist.config.study import AGAIN_SEED, CONTROLS, FOLD_SEED, Arm, StudyConfig
from mmgnn_dist.config.sweep import Dimension, SweepConfig
from mmgnn_dist.config.text import TEXT_FIELDS, Control, TextConfig
from mmgnn_dist.config.train import OptimConfig, TrackConfig, TrainConfig

__all__ = [
    "AGAIN_SEED",
    "CONTROLS",
    "ELEMENT_PROPERTIES",
    "FOLD_SEED",
    "TEXT_FIELDS",
    "Arm",
    "Backbone",
    "BackboneConfig",
    "ConformerConfig",
    "Control",
    "DataConfig",
    "Declared",
    "DimeNetPPConfig",
    "Dimension",
    "EquiformerConfig",
    "FAENetConfig",
    "ModelConfig",
    "OptimConfig",
    "PaiNNConfig",
    "PubChemConfig",
    "Recipe",
    "SchNetConfig",
    "StudyConfig",
    "SweepConfig",
    "TargetConfig",
    "TextConfig",
    "TrackConfig",
    "TrainConfig",
    "backbone_configs",
    "load_recipe",
    "load_stored_recipe",
]
