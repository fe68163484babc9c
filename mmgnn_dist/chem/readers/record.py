"""One molecule as a reader of records returns it, and blocks of many such molecules."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import BAD_TARGET, REASONS, BadRecord
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.readers.source import TEXT_COLUMNS, Found
from mmgnn_dist.chem.states.electronic_state import NO_STATEMENT, StatedStates, StructureState

MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})


@dataclass
class Record:
    """One molecule.

    Attributes:
        id: its id.
        z: atomic numbers.
        pos: flat coordinates, Å.
        smiles: SMILES, if known.
        inchikey: InChIKey, if known.
        values: all other values in its file as text, including targets and text fields.
        structure: charge and multiplicity of the structure in its file.
    """

    id: str
    z: Sequence[int]
    pos: Sequence[float] | np.ndarray
    smiles: str | None = None
    inchikey: str | None = None
    values: dict[str, str] = field(default_factory=dict)
    structure: StructureState = NO_STATEMENT


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
        """Return (name, "" if most of its values are numbers, else "text") of each column, sorted by name.

        Columns in `declared` count as numbers; a record with another value there is set aside on its own.
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
    """Read a number as C, Fortran (`1D-3`) or Mathematica (`6.*^-6`) writes it.

    Raises:
        ValueError: the text is no number.
    """
    try:
        return float(text)
    except ValueError:
        return float(text.replace("*^", "e").replace("D", "e").replace("d", "e"))


def target_values(values: dict[str, str], targets: Found, order: list[str]) -> list[float]:
    """Return the targets in canonical units, NaN where missing.

    Raises:
        BadRecord: a value is present but no number.
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
    """Make a block of molecules; records that could not be read become faults in it.

    Args:
        source: name of the source.
        start: row of the first record in the source.
        names: ids for records that could not be read.
        records: the molecules, or their faults.
        y: targets of each record.
        n_targets: number of targets.
        text_columns: columns of the source; those in `TEXT_COLUMNS` are kept.
    """
    good = [record if isinstance(record, Record) else None for record in records]
    bad = [record if isinstance(record, BadRecord) else None for record in records]
    n = len(records)
    targets = np.full((n, n_targets), np.nan)
    for index, row in enumerate(y):
        if good[index] is not None:
            targets[index] = row
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
        stated=StatedStates.nothing(n),
    )


def _said(record: Record | None, column: str) -> str | None:
    return record.values.get(column) if record else None


def _strings(values: list[str | None]) -> pa.Array:
    return pa.array([value.strip() or None if value else None for value in values], pa.large_string())
