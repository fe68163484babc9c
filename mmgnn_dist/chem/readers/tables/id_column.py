"""The column of ids of a table that has none named `id`: a name of molecules, else the first column.

Such a column is taken only if every row has a value of its own there, so that no molecule is lost as a
duplicate; a column with a blank, a repeated value, or a number with a fraction is none of ids.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from mmgnn_dist.chem.composition import FORMULA_COLUMNS
from mmgnn_dist.chem.own_targets.target_columns import declared_columns
from mmgnn_dist.chem.own_targets.target_names import known_name
from mmgnn_dist.chem.readers.source import GEOMETRY, KNOWN_COLUMNS
from mmgnn_dist.chem.states.charge_spin import state_columns
from mmgnn_dist.config import Declared

NAMES = ("name", "molecule_name", "mol_name", "compound_name", "identifier", "molecule", "compound", "mol_id")
LOOKED_AT = 1024  # rows after which a repeated value is looked for, and after twice as many, and so on


class IdColumn:
    """Candidates for the column of ids, in the order in which they are preferred.

    Args:
        columns: the columns of the table, by their known names.
        declared: what is declared of targets.
        other: columns that mean something else.
    """

    def __init__(self, columns: Sequence[str], declared: Declared, other: Collection[str] = ()) -> None:
        asked = declared_columns(declared)
        taken = {*KNOWN_COLUMNS, *GEOMETRY, *state_columns(columns, ()), *other}
        free = [
            column
            for column in columns
            if column
            and column not in taken
            and column.lower() not in {*asked, *FORMULA_COLUMNS}
            and known_name(column, columns) is None
        ]
        if "id" in columns:
            free = []
        named = [column for name in NAMES for column in free if column.lower().replace(" ", "_") == name]
        first = [column for column in columns[:1] if column in free]
        self._seen = {column: array("q") for column in (*named, *first)}  # hashes, 8 bytes a row

    def add(self, values: dict[str, str]) -> None:
        """Look at a row; a column that cannot be one of ids is no candidate from now on."""
        for column in self.candidates:
            self.add_value(column, values.get(column, ""))

    def add_value(self, column: str, value: str) -> None:
        """Look at one value of a candidate."""
        seen = self._seen.get(column)
        if seen is None:
            return
        seen.append(hash(value.strip()))
        full = not len(seen) & (len(seen) - 1) and len(seen) >= LOOKED_AT  # a power of two
        if not value.strip() or _has_fraction(value) or (full and _repeats(seen)):
            del self._seen[column]

    @property
    def candidates(self) -> list[str]:
        """The columns that may be the one of ids so far."""
        return list(self._seen)

    @property
    def chosen(self) -> str | None:
        """The column of ids; None without one."""
        return next((column for column, seen in self._seen.items() if seen and not _repeats(seen)), None)


def id_note(path: Path, column: str) -> str:
    """Say where the ids come from."""
    return f"{path.name} has no column id: the ids are those of column '{column}'"


def _repeats(hashes: array[int]) -> bool:
    """Whether a hash occurs twice."""
    ordered = np.frombuffer(hashes, np.int64)
    ordered.sort()  # in place: their order is of no use
    return bool((ordered[1:] == ordered[:-1]).any())


def _has_fraction(value: str) -> bool:
    try:
        return float(value) != int(float(value))
    except (ValueError, OverflowError):
        return False
