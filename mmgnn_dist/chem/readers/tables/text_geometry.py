"""Geometries in tables of text: lists as JSON, Python or numpy writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmgnn_dist.chem.checks import BadRecord
from mmgnn_dist.chem.own_targets.values import is_missing, is_number, to_float
from mmgnn_dist.chem.readers.source import IDENTIFIERS
from mmgnn_dist.chem.readers.tables.geometry import LOOKED_AT, POSITION_NAMES, GeometryLayout, find_geometry
from mmgnn_dist.chem.readers.tables.geometry_values import list_of_text, triples_of_text


def find_text_geometry(path: Path, columns: tuple[str, ...], head: list[dict[str, str]]) -> GeometryLayout:
    """Find the geometry of a table of text by its first rows.

    Args:
        path: path of the file, for messages.
        columns: names of its columns; that of SMILES is `smiles`.
        head: values of the first rows by column.

    Raises:
        UserError: see `find_geometry`.
    """
    texts = {name: [row.get(name, "") for row in head] for name in columns}
    # identifiers are text, though a SMILES such as [NH4+] reads like a list
    table = pa.table(
        {
            name: pa.array(values, pa.large_string()) if name in IDENTIFIERS else _typed(values)
            for name, values in texts.items()
        }
    )
    smiles = "smiles" if "smiles" in columns else None
    return find_geometry(path, table.schema, smiles, lambda names: iter([table.select(names)]))


def has_text_geometry(columns: Iterable[str], rows: Iterable[list[str] | BadRecord]) -> bool:
    """Whether a column that is named as positions are holds a list in one of the first rows."""
    places = [place for place, name in enumerate(columns) if name.strip().lower() in POSITION_NAMES]
    return bool(places) and any(
        _read(list_of_text, row[place])
        for row in islice(rows, LOOKED_AT)
        if not isinstance(row, BadRecord)
        for place in places
        if place < len(row)
    )


def _typed(texts: list[str]) -> pa.Array:
    """Return a column as lists where most of its values are lists, as numbers where all are, else as text."""
    values = [None if is_missing(text) else text for text in texts]
    present = [text for text in values if text is not None]
    lists = [_read(list_of_text, text) for text in values]
    if 2 * sum(items is not None for items in lists) > len(present):
        return _lists(lists, values)
    if present and all(map(is_number, present)):
        return pa.array([None if text is None else 0.0 for text in values], pa.float64())
    return pa.array(values, pa.large_string())


def _lists(lists: list[list[Any] | None], values: list[str | None]) -> pa.Array:
    """Return lists of lists of numbers, else lists of numbers, else lists of words; null for all others."""
    if any(isinstance(item, list) for items in lists for item in items or ()):
        nested = [_read(triples_of_text, text) for text in values]
        if not any(nested):
            return pa.array(values, pa.large_string())  # lists of other things
        return pa.array(nested, pa.large_list(pa.large_list(pa.float64())))
    if all(is_number(item) for items in lists for item in items or ()):
        numbers = [None if items is None else [to_float(item) for item in items] for items in lists]
        return pa.array(numbers, pa.large_list(pa.float64()))
    return pa.array(lists, pa.large_list(pa.large_string()))


def _read(read: Callable[[str], list[Any]], text: str | None) -> list[Any] | None:
    try:
        return read(text) if text is not None else None
    except ValueError:
        return None
