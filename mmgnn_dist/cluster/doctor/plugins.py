"""Check of plugins: what other installed packages add, and whether it can be used."""

from __future__ import annotations

from collections.abc import Collection

from mmgnn_dist.chem.readers.formats import BUILT_IN
from mmgnn_dist.cluster.doctor.line import Line, fail, ok
from mmgnn_dist.config.choices import OWN, OWN_BACKBONES, load_backbone_config
from mmgnn_dist.config.data import PROVIDERS
from mmgnn_dist.errors import UserError
from mmgnn_dist.plugins import PLUGIN_GROUPS, plugins


def check_plugins() -> list[Line]:
    """Check that each plugin loads; returns one line for each, or one if there are none."""
    own_names: dict[str, Collection[str]] = {
        "backbones": OWN_BACKBONES,
        "text_providers": PROVIDERS,
        "readers": BUILT_IN,
        **OWN,
    }
    lines = []
    for group in PLUGIN_GROUPS:
        for plugin in plugins(group, own_names.get(group, ())).values():
            try:
                if group == "backbones":
                    load_backbone_config(plugin)
                else:
                    plugin.load()
                description = f"{group}: {plugin.name}, {plugin.package} {plugin.version}"
                lines.append(ok("plugin", f"{description}, SHA-256 {plugin.sha256[:12]}"))
            except UserError as error:
                lines.append(fail("plugin", str(error), f"mend, update or uninstall {plugin.package}"))
    return lines or [ok("plugin", "none installed")]
