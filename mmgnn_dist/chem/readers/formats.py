"""Every format of raw records: XYZ, SD, and those that installed packages add.

A plugin whose module fails stops nobody who reads other files: `faulty_formats` gives its fault to whoever
refuses a file.
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
    """All formats that can be used, by name, our own first."""
    return _loaded()[0]


def faulty_formats() -> tuple[str, ...]:
    """What keeps the other ones from being used, a line each."""
    return _loaded()[1]


def record_suffixes() -> tuple[str, ...]:
    """The suffixes of all formats."""
    return tuple(suffix for form in record_formats().values() for suffix in form.suffixes)


def format_name(suffix: str) -> str:
    """The name of the format of files with a suffix; of any other suffix XYZ, which then finds no record."""
    names = (name for name, form in record_formats().items() if suffix in form.suffixes)
    return next(names, "XYZ")


def format_plugins(names: Collection[str]) -> list[Plugin]:
    """The plugins behind the formats of these names; there is none behind our own."""
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
    """The format that a plugin adds.

    Raises:
        UserError: it is no subclass of `RecordFormat`, or has suffixes that cannot be its own.
    """
    form = plugin.load()
    if not (isinstance(form, type) and issubclass(form, RecordFormat)):
        raise plugin.error(f"{plugin.value} is no subclass of {RecordFormat.__module__}.RecordFormat")
    if not form.suffixes or not all(s.startswith(".") and s == s.lower() for s in form.suffixes):
        raise plugin.error(f"its suffixes are {form.suffixes}, and each has to be like '.xyz'")
    for name, other in taken.items():
        if both := set(form.suffixes) & set(other.suffixes):
            raise plugin.error(f"{', '.join(sorted(both))} is a suffix of {name}")
    loaded: RecordFormat = form()
    return loaded
