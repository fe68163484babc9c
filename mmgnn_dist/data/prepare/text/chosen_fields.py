"""The column `selected_fields` of a source or text table: which text fields each molecule reads.

An entry is a list of names, or a string: a JSON list, or names separated by commas. Names are those of the
fields, or their labels ("IUPAC name", "XLogP"), in any case. A name that is no field is counted and left out;
a molecule without an entry reads all fields.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.text.sentences import LABELS

NAMES = pa.large_list(pa.large_string())


def listed_names(column: pa.Array) -> pa.Array:
    """Read a column `selected_fields`: lists of names, null where there is no entry."""
    return pa.array([_entry(value) for value in column.to_pylist()], NAMES)


def known_fields(column: pa.Array, text_columns: Mapping[str, str]) -> tuple[pa.Array, Counter[str]]:
    """Replace names by fields.

    Args:
        column: result of `listed_names`.
        text_columns: column of each own text field.

    Returns:
        Lists of names of fields, each once, and how often each name occurs that is no field.
    """
    fields = {_plain(name): name for name in (*TEXT_FIELDS, *text_columns)}
    for name, label in (*LABELS.items(), *text_columns.items()):
        fields.setdefault(_plain(label), name)
    unknown: Counter[str] = Counter()
    rows = column.to_pylist()
    for row in rows:
        unknown.update(name[:60] for name in row or () if _plain(name) not in fields)
    known = [
        None
        if row is None
        else list(dict.fromkeys(fields[_plain(name)] for name in row if _plain(name) in fields))
        for row in rows
    ]
    return pa.array(known, NAMES), unknown


def _entry(value: object) -> list[str] | None:
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        try:
            value = json.loads(text) if text.startswith("[") else text.split(",")
        except ValueError:
            value = text.strip("[]").split(",")
    if not isinstance(value, list):
        return None
    return [name for name in (str(word).strip().strip("'\"") for word in value if word is not None) if name]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")
