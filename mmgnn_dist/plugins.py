"""Plugins of other installed packages: backbones, fusions, optimisers, metrics, readers, text providers.

A package declares its plugins in its own `pyproject.toml`, in the entry point group of their kind:

    [project.entry-points."mmgnn_dist.backbones"]
    mine = "my_package.config:MyBackboneConfig"

Looking for plugins reads the metadata of the installed packages and imports none of them; a plugin is
imported when it is used. A broken plugin affects only runs that name it: `load` raises its fault, and
`mmgnn doctor` shows it. Name, version and content identify a plugin, because another version or content
may compute something else.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import sha256

PLUGIN_GROUPS = ("backbones", "fusions", "optimizers", "metrics", "readers", "text_providers")
PREFIX = "mmgnn_dist."


@dataclass(frozen=True)
class Plugin:
    """One plugin of an installed package.

    Attributes:
        name: the name that a recipe uses.
        group: one of `PLUGIN_GROUPS`.
        package: name of the installed package.
        version: version of the installed package.
        value: its location, `module:attribute`.
        fault: why it cannot be used, as far as its metadata show; None if they show no fault.
    """

    name: str
    group: str
    package: str
    version: str
    value: str
    fault: str | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """Name of the plugin in messages."""
        return f"plugin '{self.name}' ({PREFIX}{self.group}, package {self.package} {self.version})"

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the names and contents of the files of its top-level module or package.

        Raises:
            UserError: the module does not exist.
        """
        files = _files(self.value.partition(":")[0].partition(".")[0])
        if not files:
            raise self.error(f"there is no module '{self.value.partition(':')[0]}'")
        digest = hashlib.sha256()
        for name, path in files:
            digest.update(f"{name} {sha256(path)}\n".encode())
        return digest.hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """What a run records about the plugin; only the same plugin can continue the run."""
        return {
            "group": self.group,
            "name": self.name,
            "package": self.package,
            "version": self.version,
            "sha256": self.sha256,
        }

    def load(self) -> Any:
        """Import the plugin and return the object that it adds.

        Raises:
            UserError: it cannot be used.
        """
        if self.fault:
            raise self.error(self.fault)
        try:
            return EntryPoint(self.name, self.value, PREFIX + self.group).load()
        except Exception as error:  # third-party code may raise anything
            raise self.error(f"{type(error).__name__}: {' '.join(str(error).split())}") from error

    def error(self, why: str) -> UserError:
        """The error for a plugin that cannot be used."""
        return UserError(f"{self.label} cannot be used: {why}; repair, update or uninstall {self.package}")


def plugins(group: str, builtin: Collection[str] = ()) -> dict[str, Plugin]:
    """Return the plugins of a group by name, including those that cannot be used.

    Args:
        group: one of `PLUGIN_GROUPS`.
        builtin: names of mmgnn_dist itself; no plugin may take them.

    Returns:
        The plugins, sorted by name; nothing is imported.
    """
    fault = "mmgnn_dist itself has this name"
    return {
        plugin.name: replace(plugin, fault=fault) if plugin.name in builtin else plugin
        for plugin in _installed(group)
    }


@cache
def _installed(group: str) -> tuple[Plugin, ...]:
    """Return one plugin for each name; a name that several packages add is a fault."""
    by_name: dict[str, list[Plugin]] = {}
    for point in sorted(entry_points(group=PREFIX + group), key=lambda point: (point.name, point.value)):
        package = point.dist.name if point.dist else "?"
        version = point.dist.version if point.dist else "?"
        by_name.setdefault(point.name, []).append(Plugin(point.name, group, package, version, point.value))
    chosen = []
    for candidates in by_name.values():
        packages = sorted({plugin.package for plugin in candidates})
        fault = f"several packages add it: {', '.join(packages)}" if len(set(candidates)) > 1 else None
        chosen.append(replace(candidates[0], fault=fault))
    return tuple(chosen)


def _files(module: str) -> list[tuple[str, Path]]:
    """Return name and path of each file of a top-level module or package without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [(Path(spec.origin).name, Path(spec.origin))] if spec.origin and spec.has_location else []
    return sorted(
        (str(path.relative_to(folder)), path)
        for folder in map(Path, spec.submodule_search_locations)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
