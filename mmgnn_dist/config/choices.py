"""The backbones, fusions, optimisers and metrics that a recipe may name: our own and those of plugins.

A plugin that cannot be used is not among the choices, so that other recipes still work. A recipe that names
it gets an error that says why.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union

from pydantic import BeforeValidator, Field

from mmgnn_dist.config.backbone_base import BackboneConfig
from mmgnn_dist.config.backbones import (
    DimeNetPPConfig,
    EquiformerConfig,
    FAENetConfig,
    PaiNNConfig,
    SchNetConfig,
)
from mmgnn_dist.errors import UserError
from mmgnn_dist.plugins import Plugin, plugins

T = TypeVar("T")

OWN_BACKBONES: dict[str, type[BackboneConfig]] = {
    kind.model_fields["name"].default: kind
    for kind in (SchNetConfig, PaiNNConfig, DimeNetPPConfig, EquiformerConfig, FAENetConfig)
}
# the classes of everything else that a recipe may name, by group and name
OWN: dict[str, dict[str, str]] = {
    "fusions": {
        "gate": "mmgnn_dist.models.fusions.base:GateFusion",
        "concat": "mmgnn_dist.models.fusions.base:ConcatFusion",
        "film": "mmgnn_dist.models.fusions.base:FilmFusion",
        "cross_attention": "mmgnn_dist.models.fusions.cross_attention:CrossAttentionFusion",
        "gate_paper": "mmgnn_dist.models.fusions.paper_gate:PaperGate",
        "none": "mmgnn_dist.models.fusions.base:NoFusion",
    },
    "optimizers": {"adamw": "mmgnn_dist.train.optim.optimizers:AdamW"},
    "metrics": {"mae": "mmgnn_dist.train.metrics:MeanAbsoluteError"},
}


def backbone_plugins() -> dict[str, Plugin]:
    """Return the backbones of other packages, by name; each points to a subclass of `BackboneConfig`."""
    return plugins("backbones", OWN_BACKBONES)


def load_class(group: str, name: str, base: type[T]) -> type[T]:
    """Load the class that a recipe names, the package's own or a plugin's.

    Args:
        group: key of `OWN`.
        name: name that the recipe gives.
        base: class that it must be a subclass of.

    Raises:
        UserError: if a plugin cannot be used.
    """
    if name in OWN[group]:
        module, _, attribute = OWN[group][name].partition(":")
        own_class: type[T] = getattr(import_module(module), attribute)
        return own_class
    plugin = plugins(group, OWN[group])[name]
    plugin_class = plugin.load()
    if not (isinstance(plugin_class, type) and issubclass(plugin_class, base)):
        raise plugin.error(f"{plugin.value} is no subclass of {base.__module__}.{base.__qualname__}")
    return plugin_class


def choice_names(group: str) -> tuple[str, ...]:
    """Return the names of a group that a recipe may give."""
    return tuple(OWN[group] | dict.fromkeys(plugins(group)))


@cache
def load_backbone_config(plugin: Plugin) -> type[BackboneConfig]:
    """Load the settings class of a plugin's backbone.

    Raises:
        UserError: if it cannot be used.
    """
    kind = plugin.load()
    if not (isinstance(kind, type) and issubclass(kind, BackboneConfig)):
        raise plugin.error(f"{plugin.value} is no subclass of mmgnn_dist.config.BackboneConfig")
    if (name := kind.model_fields["name"].default) != plugin.name:
        raise plugin.error(f"its settings call it '{name}'")
    if kind.module.split(".")[0].split(":")[0] != plugin.value.split(".")[0].split(":")[0]:
        raise plugin.error(f"{kind.module} is outside of the package of {plugin.value}: hashes would miss it")
    return kind


def backbone_configs() -> dict[str, type[BackboneConfig]]:
    """Return the settings classes of all usable backbones, by name."""
    configs = dict(OWN_BACKBONES)
    for name, plugin in backbone_plugins().items():
        try:
            configs.setdefault(name, load_backbone_config(plugin))
        except UserError:  # reported for a recipe that names it, and by `mmgnn doctor`
            continue
    return configs


def _named(value: Any) -> Any:
    """Name SchNet if no backbone is named (`model.backbone.hidden=64` alone); say why a plugin is refused."""
    if not isinstance(value, dict):
        return value
    name = value.get("name")
    if name not in OWN_BACKBONES and (plugin := backbone_plugins().get(str(name))):
        try:
            load_backbone_config(plugin)
        except UserError as error:
            raise ValueError(str(error)) from None
    return {"name": "schnet", **value}


if TYPE_CHECKING:
    Backbone = BackboneConfig
    Fusion = str
    OptimizerName = str
    MetricName = str
else:
    Backbone = Annotated[
        Union[tuple(backbone_configs().values())],  # noqa: UP007  over all that are installed
        Field(discriminator="name"),
        BeforeValidator(_named),
    ]
    Fusion = Literal[choice_names("fusions")]
    OptimizerName = Literal[choice_names("optimizers")]
    MetricName = Literal[choice_names("metrics")]
