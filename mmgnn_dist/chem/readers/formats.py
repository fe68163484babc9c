"""All formats of raw records: XYZ, SD, and those of plugins.

A plugin whose module fails does not affect other files: `faulty_formats` gives its fault for the message
that refuses a file.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from mmgnn_dist.chem.readers.record_format import RecordFormat
from mmgnn_dist.chem.readers.sdf import SdfFormat
from mmgnn_dist.chem.readers.xyz import XyzFormat
from mmgnn_dist.errors import UserError
from mmgnn_dist.plugins import Plugin, plugins

GROUP = "readers"
BUILT_IN: dict[str, RecordFormat] = {"XYZ": XyzFormat(), "SD": SdfFormat()}


def record_formats() -> dict[str, RecordFormat]:
    """Return all usable formats by name, the built-in ones first."""
    return _loaded()[0]


def faulty_formats() -> tuple[str, ...]:
    """Return the faults of the other formats, one line each."""
    return _loaded()[1]


def record_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all formats."""
    return tuple(suffix for form in record_formats().values() for suffix in form.suffixes)


def format_name(suffix: str) -> str:
    """Return the name of the format with a suffix; XYZ for other suffixes, which then finds no record."""
    names = (name for name, form in record_formats().items() if suffix in form.suffixes)
    return next(names, "XYZ")


def format_plugins(names: Collection[str]) -> list[Plugin]:
    """Return the plugins behind the formats of these names; built-in formats have none."""
    return [
        plugin for name, plugin in plugins(GROUP, BUILT_IN).items() if name in names and name not in BUILT_IN
    ]


@cache
def _loaded() -> tuple[dict[str, RecordFormat], tuple[str, ...]]:
    formats, faults = dict(BUILT_IN), []
    for name, plugin in plugins(GROUP, BUILT_IN).items():
        try:
            formats[name] = _load(plugin, formats)
        except UserError as error:
            faults.append(str(error))
    return formats, tuple(faults)


def _load(plugin: Plugin, taken: dict[str, RecordFormat]) -> RecordFormat:
    """Load the format that a plugin adds.

    Raises:
        UserError: it is no subclass of `RecordFormat`, or its suffixes are invalid or taken.
    """
    form = plugin.load()
    if not (isinstance(form, type) and issubclass(form, RecordFormat)):
        raise plugin.error(f"{plugin.value} is no subclass of {RecordFormat.__module__}.RecordFormat")
    if not form.suffixes or not all(s.startswith(".") and s == s.lower() for s in form.suffixes):
        raise plugin.error(f"its suffixes are {form.suffixes}, and each must be like '.xyz'")
    for name, other in taken.items():
        if shared := set(form.suffixes) & set(other.suffixes):
            raise plugin.error(f"{', '.join(sorted(shared))} is a suffix of {name}")
    loaded: RecordFormat = form()
    return loaded
