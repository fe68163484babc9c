"""One molecule as a reader of records finds it, and blocks of molecules made of many of them."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import BAD_TARGET, REASONS, BadRecord
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.readers.source import TEXT_COLUMNS, Found

MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})


@dataclass
class Record:
    """One molecule.

    Attributes:
        id: its id.
        z: atomic numbers.
        pos: flat coordinates, Å.
        smiles: if known.
        inchikey: if known.
        values: whatever else its file says of it, targets and text fields among it, as text.
    """

    id: str
    z: Sequence[int]
    pos: Sequence[float] | np.ndarray
    smiles: str | None = None
    inchikey: str | None = None
    values: dict[str, str] = field(default_factory=dict)


class Census:
    """Which columns the records of a source have, and whether they hold numbers."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {}

    def add(self, values: dict[str, str]) -> None:
        """Count the columns of one record."""
        for name, text in values.items():
            if text.strip().lower() not in MISSING:
                self.seen.setdefault(name, [0, 0])[is_number(text)] += 1
            else:
                self.seen.setdefault(name, [0, 0])

    def columns(self, declared: Container[str]) -> list[tuple[str, str]]:
        """(name, "" if most of its values are numbers, else "text"), by name.

        What the user has declared is a number: a record in which it is not is set aside on its own.
        """
        return [
            (name, "" if good >= bad or name in declared else "text")
            for name, (bad, good) in sorted(self.seen.items())
        ]


def is_number(text: str) -> bool:
    """Whether a text is one number."""
    try:
        to_float(text)
    except ValueError:
        return False
    return True


def to_float(text: str) -> float:
    """A number as C, Fortran (`1D-3`) or Mathematica (`6.*^-6`) writes it.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        return float(text.replace("*^", "e").replace("D", "e").replace("d", "e"))


def target_values(values: dict[str, str], targets: Found, order: list[str]) -> list[float]:
    """Targets in canonical units, NaN where missing.

    Raises:
        BadRecord: a value that is there and no number.
    """
    row = [math.nan] * len(order)
    for column, target, factor in targets:
        text = values.get(column, "").strip()
        if text.lower() not in MISSING:
            try:
                row[order.index(target.name)] = to_float(text) * factor
            except ValueError:
                raise BadRecord(BAD_TARGET, f"{column}: '{text[:60]}'") from None
    return row


def assemble(
    source: str,
    start: int,
    names: list[str],
    records: Sequence[Record | BadRecord],
    y: Sequence[Sequence[float]],
    n_targets: int,
    text_columns: Sequence[str],
) -> Molecules:
    """A block of molecules; those that could not be read stand in it as faults.

    Args:
        source: name of the source.
        start: its row of the first record.
        names: what a record that could not be read is called.
        records: the molecules.
        y: their targets.
        n_targets: number of targets.
        text_columns: which columns of text there are, of `TEXT_COLUMNS`.
    """
    good = [record if isinstance(record, Record) else None for record in records]
    bad = [record if isinstance(record, BadRecord) else None for record in records]
    n = len(records)
    targets = np.full((n, n_targets), np.nan)
    for place, row in enumerate(y):
        if good[place] is not None:
            targets[place] = row
    z = [np.asarray(record.z if record else (), np.int64) for record in good]
    pos = [np.asarray(record.pos if record else (), np.float64).ravel() for record in good]
    text = {
        column: pa.array([_said(record, column) for record in good], pa.large_string())
        for column in TEXT_COLUMNS
        if column in text_columns
    }
    return Molecules(
        source=source,
        row=np.arange(start, start + n),
        id=_strings([record.id if record else name for record, name in zip(good, names, strict=True)]),
        smiles=_strings([record.smiles if record else None for record in good]),
        inchikey=_strings([record.inchikey if record else None for record in good]),
        z=np.concatenate([np.zeros(0, np.int64), *z]),
        z_count=np.array([len(part) for part in z], np.int64),
        pos=np.concatenate([np.zeros(0), *pos]),
        pos_count=np.array([len(part) for part in pos], np.int64),
        ragged=np.zeros(n, bool),
        y=targets,
        excluded=np.zeros(n, bool),
        fault=np.array([REASONS.index(fault.reason) if fault else 0 for fault in bad], np.int8),
        why=pa.array([fault.detail[:200] if fault else None for fault in bad], pa.large_string()),
        text=pa.table(text) if text else pa.table({"": pa.nulls(n)}).select([]),
    )


def _said(record: Record | None, column: str) -> str | None:
    return record.values.get(column) if record else None


def _strings(values: list[str | None]) -> pa.Array:
    return pa.array([value.strip() or None if value else None for value in values], pa.large_string())
