"""Names and types of columns: known names in any case; a type that cannot be used is refused before any work.

A column may come in several forms: ids as strings or numbers, numbers as text, positions flat or as
triples, and each of Arrow's types for the same values. The values are checked molecule by molecule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import types

from mmgnn_dist.chem.readers.source import IDENTIFIERS, TEXT_COLUMNS
from mmgnn_dist.chem.readers.tables.arrow_types import is_list_type, is_number_type, is_text_type, plain_type
from mmgnn_dist.errors import UserError

KNOWN = frozenset((*IDENTIFIERS, *TEXT_COLUMNS))
Kind = Callable[[pa.DataType], bool]


def known_names(path: Path, names: Collection[str], declared: Collection[str]) -> dict[str, str]:
    """Return the known name of each column that has one in another case, such as `smiles` for `SMILES`.

    Args:
        path: path of the file, for messages.
        names: all columns of the file.
        declared: columns that the recipe names; they keep their names.

    Raises:
        UserError: a name stands twice, or two names are the same known name in another case.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{path} has two columns of the same name, '{twice[0][:60]}': rename one")
    found: dict[str, str] = {}
    for name in names:
        known = name.lower()
        if known in KNOWN and known not in names and name not in declared:
            if known in found.values():
                other = next(old for old, new in found.items() if new == known)
                raise UserError(f"{path}: columns '{other}' and '{name}' are both {known}: rename one")
            found[name] = known
    return found


def check_columns(
    path: Path, schema: pa.Schema, names: Iterable[str], known: dict[str, str] | None = None
) -> None:
    """Refuse columns of a type that cannot be read.

    Args:
        path: path of the file, for the message.
        schema: schema of the file.
        names: columns to read; the schema has all of them.
        known: known names of the columns that have another name in the file.

    Raises:
        UserError: a column has a wrong type; the message gives its name, its type and what is allowed.
    """
    for name in names:
        kind = schema.field(name).type
        fits, allowed = FORMS.get((known or {}).get(name, name), WORDS)
        if not types.is_null(kind) and not fits(plain_type(kind)):
            raise UserError(f"{path}: column '{name}' is {str(kind)[:80]}, and has to be {allowed}")


def _is_word(kind: pa.DataType) -> bool:
    return _is_text_or_number(kind) or bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_text_or_number(kind: pa.DataType) -> bool:
    return is_number_type(kind) or is_text_type(kind)


def _is_flag(kind: pa.DataType) -> bool:
    return bool(types.is_boolean(kind) or types.is_integer(kind))


def _list_of(inner: Kind) -> Kind:
    def fits(kind: pa.DataType) -> bool:
        return bool(is_list_type(kind) and (types.is_null(kind.value_type) or inner(kind.value_type)))

    return fits


_numbers = _list_of(is_number_type)
WORDS: tuple[Kind, str] = (_is_word, "strings or numbers")
_NUMBERS: tuple[Kind, str] = (_is_text_or_number, "numbers, also as strings")
FORMS: dict[str, tuple[Kind, str]] = {
    "atomic_numbers": (_list_of(_is_text_or_number), "lists of atomic numbers or symbols"),
    "positions": (_list_of(lambda kind: is_number_type(kind) or _numbers(kind)), "lists of coordinates, Å"),
    "synonyms": (
        lambda kind: is_text_type(kind) or _list_of(is_text_type)(kind),
        "lists of strings, or JSON lists",
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
