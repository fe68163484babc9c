"""The backbones and fusions that a recipe may name: the package's own, and those of installed packages.

A plugin that cannot be used is no choice, so that it stops no recipe that does not name it; a recipe that
does is told why.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

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

OWN_BACKBONES: dict[str, type[BackboneConfig]] = {
    kind.model_fields["name"].default: kind
    for kind in (SchNetConfig, PaiNNConfig, DimeNetPPConfig, EquiformerConfig, FAENetConfig)
}
OWN_FUSIONS = ("gate", "concat", "film", "cross_attention", "gate_paper", "none")


def backbone_plugins() -> dict[str, Plugin]:
    """Backbones of other packages, by name; each points to a subclass of `BackboneConfig`."""
    return plugins("backbones", OWN_BACKBONES)


def fusion_plugins() -> dict[str, Plugin]:
    """Fusions of other packages, by name; each points to a subclass of `models.fusions.base.Fusion`."""
    return plugins("fusions", OWN_FUSIONS)


@cache
def load_backbone_config(plugin: Plugin) -> type[BackboneConfig]:
    """The settings of a plugin's backbone.

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
    """The settings of all backbones that can be used, by name."""
    configs = dict(OWN_BACKBONES)
    for name, plugin in backbone_plugins().items():
        try:
            configs.setdefault(name, load_backbone_config(plugin))
        except UserError:  # told where a recipe names it, and by `mmgnn doctor`
            continue
    return configs


def _named(value: Any) -> Any:
    """SchNet unless one is named (`model.backbone.hidden=64` alone); why a plugin cannot be chosen."""
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
else:
    Backbone = Annotated[
        Union[tuple(backbone_configs().values())],  # noqa: UP007  of as many as are installed
        Field(discriminator="name"),
        BeforeValidator(_named),
    ]
    Fusion = Literal[(*OWN_FUSIONS, *(name for name in fusion_plugins() if name not in OWN_FUSIONS))]
