"""Column types of Parquet files: a type that cannot be used is refused before any data is read.

A column may come in several forms: ids as strings or numbers, numbers as text, positions flat or as triples.
The values in a column of an allowed type are checked molecule by molecule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import types

from mmgnn_dist.errors import UserError

Kind = Callable[[pa.DataType], bool]


def check_columns(path: Path, schema: pa.Schema, names: Iterable[str], words: Iterable[str] = ()) -> None:
    """Refuse columns of a type that cannot be read.

    Args:
        path: path of the file, for the message.
        schema: schema of the file.
        names: columns to read; the schema has all of them.
        words: columns to read as text, whatever their names mean elsewhere.

    Raises:
        UserError: a column has a wrong type; the message gives its name, its type and what is allowed.
    """
    forms = [(name, FORMS.get(name, WORDS)) for name in names] + [(name, WORDS) for name in words]
    for name, (fits, allowed) in forms:
        kind = schema.field(name).type
        if not types.is_null(kind) and not fits(kind):
            raise UserError(f"{path}: column '{name}' is {str(kind)[:80]}, and has to be {allowed}")


def _is_text(kind: pa.DataType) -> bool:
    plain = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(plain) or types.is_large_string(plain))


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _is_word(kind: pa.DataType) -> bool:
    return _is_text(kind) or _is_number(kind) or bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_text_or_number(kind: pa.DataType) -> bool:
    return _is_number(kind) or bool(types.is_string(kind) or types.is_large_string(kind))


def _is_flag(kind: pa.DataType) -> bool:
    return bool(types.is_boolean(kind) or types.is_integer(kind))


def _list_of(inner: Kind) -> Kind:
    def fits(kind: pa.DataType) -> bool:
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(is_list and (types.is_null(kind.value_type) or inner(kind.value_type)))

    return fits


_numbers = _list_of(_is_number)
WORDS: tuple[Kind, str] = (_is_word, "strings or numbers")
_NUMBERS: tuple[Kind, str] = (_is_text_or_number, "numbers, also as strings")
FORMS: dict[str, tuple[Kind, str]] = {
    "atomic_numbers": (_list_of(_is_text_or_number), "lists of atomic numbers or symbols"),
    "positions": (_list_of(lambda kind: _is_number(kind) or _numbers(kind)), "lists of coordinates, Å"),
    "synonyms": (lambda kind: _is_text(kind) or _list_of(_is_text)(kind), "lists of strings, or JSON lists"),
    "selected_fields": (
        lambda kind: _is_text(kind) or _list_of(_is_text)(kind),
        "lists of names of text fields",
    ),
    "uncharacterized": (_is_flag, "true or false"),
    **dict.fromkeys(
        (
            "molecular_weight",
            "xlogp",
            "h_bond_donor_count",
            "h_bond_acceptor_count",
            "rotatable_bond_count",
            "tpsa",
        ),
        _NUMBERS,
    ),
}
