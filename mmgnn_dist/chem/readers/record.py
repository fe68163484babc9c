"""One molecule as a reader of records returns it, and blocks of many such molecules."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import BAD_TARGET, REASONS, BadRecord
from mmgnn_dist.chem.composition import contradictions, stating_columns
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.own_targets.classes import MOST, class_index, class_name
from mmgnn_dist.chem.own_targets.target_columns import Found, class_columns, declared_columns
from mmgnn_dist.chem.own_targets.values import (
    is_missing,
    is_number,
    number_list,
    target_value,
    value_and_unit,
)
from mmgnn_dist.chem.states.electronic_state import NO_STATEMENT, StatedStates, StructureState
from mmgnn_dist.chem.targets import CLASS, TARGETS
from mmgnn_dist.config import Declared

MOST_UNITS, MOST_UNIT = 20, 40  # different units of a column, and characters of one, that are counted


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
        conflicts: names of values that the file gives twice, each with both values for a message.
        derived: whether the reader made the SMILES from the bonds; it is then no statement of the file.
        structure: charge and multiplicity of the structure in its file.
    """

    id: str
    z: Sequence[int]
    pos: Sequence[float] | np.ndarray
    smiles: str | None = None
    inchikey: str | None = None
    values: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    derived: bool = False
    structure: StructureState = NO_STATEMENT


class Census:
    """Which columns records have, whether they hold numbers, and which words stand for missing ones."""

    def __init__(self, declared: Declared) -> None:
        self._class_columns = class_columns(declared)
        self.classes: dict[str, set[str]] = {}  # names in the columns that are declared as classes
        self.seen: dict[str, list[int]] = {}
        self.numbers: dict[str, str] = {}  # the first number of each column, as it is written
        self.missing: dict[str, Counter[str]] = {}
        self.units: dict[str, Counter[str]] = {}  # units that stand behind the values of each column

    def add(self, values: dict[str, str]) -> None:
        """Count the columns of one record."""
        for name, text in values.items():
            if self._class_columns and name.lower() in self._class_columns:
                self._add_class(name, text)
            counts = self.seen.get(name)
            if counts is None:
                counts = self.seen[name] = [0, 0]
            if not is_missing(text):
                number = is_number(text) or len(number_list(text)) == 1
                counts[number] += 1
                if number and name not in self.numbers:
                    self.numbers[name] = text.strip()
                elif not number and (found := value_and_unit(text)):
                    self._add_unit(name, found[1])
            elif word := text.strip()[:20]:
                self.missing.setdefault(name, Counter())[word] += 1

    def stated_units(self, declared: Declared) -> Declared:
        """Return the units behind the values of known targets to which the recipe gives none."""
        wanted = declared_columns(declared)
        return {
            name: units.most_common(1)[0][0]
            for name, units in self.units.items()
            if name.lower() in TARGETS and name.lower() not in wanted and not self.seen[name][1]
        }

    def value_notes(self, targets: Found) -> list[str]:
        """Return lines on the targets some of whose values carry a unit, or are words for a missing one."""
        lines = []
        for column, _, _ in targets:
            if units := self.units.get(column):
                shown = ", ".join(f"'{unit}'" for unit, _ in units.most_common(4))
                lines.append(f"{column}: {units.total()} values are read in the unit behind them ({shown})")
            if words := self.missing.get(column):
                shown = ", ".join(f"'{word}'" for word, _ in words.most_common(4))
                lines.append(f"{column}: {words.total()} values are missing ({shown})")
        return lines

    def classes_of(self, column: str) -> set[str]:
        """Return the class names in a column that is declared as classes."""
        return self.classes.get(column, set())

    def _add_unit(self, name: str, unit: str) -> None:
        units = self.units.setdefault(name, Counter())
        if unit in units or len(units) < MOST_UNITS:
            units[unit[:MOST_UNIT]] += 1

    def _add_class(self, name: str, text: str) -> None:
        names, label = self.classes.setdefault(name, set()), class_name(text)
        if label is not None and len(names) <= MOST:
            names.add(label)

    def columns(self, declared: Declared) -> list[tuple[str, str]]:
        """Return (name, "" if most of its values are numbers, else "text") of each column, sorted by name.

        Declared columns count as numbers; a record with another value there is set aside on its own.
        """
        wanted = declared_columns(declared) | {name.lower() for name in self.stated_units(declared)}
        return [
            (name, "" if good >= bad or name.lower() in wanted else "text")
            for name, (bad, good) in sorted(self.seen.items())
        ]


def target_values(record: Record, targets: Found, order: list[str]) -> list[float]:
    """Return the targets of a record in canonical units, NaN where missing.

    Raises:
        BadRecord: a value is present but no number, or stands twice.
    """
    row = [math.nan] * len(order)
    for column, target, factor in targets:
        text = record.values.get(column, "").strip()
        if column in record.conflicts:
            raise BadRecord(BAD_TARGET, f"{column} stands twice: {record.conflicts[column]}")
        if target.kind == CLASS:
            try:
                row[order.index(target.name)] = class_index(text, target.classes)
            except ValueError:
                raise BadRecord(BAD_TARGET, f"{column}: '{text[:60]}'") from None
        elif not is_missing(text):
            row[order.index(target.name)] = target_value(column, text, target, factor)
    return row


def assemble(
    source: str,
    start: int,
    names: list[str],
    records: Sequence[Record | BadRecord],
    y: Sequence[Sequence[float]],
    n_targets: int,
    text_columns: Sequence[tuple[str, str]],
) -> Molecules:
    """Make a block of molecules; records that could not be read become faults in it.

    Args:
        source: name of the source.
        start: row of the first record in the source.
        names: ids for records that could not be read.
        records: the molecules, or their faults.
        y: targets of each record.
        n_targets: number of targets.
        text_columns: (text field, name of its value in the records).
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
    fault = np.array([REASONS.index(fault.reason) if fault else 0 for fault in bad], np.int8)
    why = [fault.detail[:200] if fault else None for fault in bad]
    stated = {
        "SMILES": _strings([record.smiles if record and not record.derived else None for record in good]),
        "formula": _strings([_stated(record, "formula") for record in good]),
        "InChI": _strings([_stated(record, "InChI") for record in good]),
    }
    flat_z, z_count = (
        np.concatenate([np.zeros(0, np.int64), *z]),
        np.array([len(part) for part in z], np.int64),
    )
    contradictions(flat_z, z_count, stated, fault, why)
    text = {
        field: pa.array([_said(record, column) for record in good], pa.large_string())
        for field, column in text_columns
    }
    return Molecules(
        source=source,
        row=np.arange(start, start + n),
        id=_strings([record.id if record else name for record, name in zip(good, names, strict=True)]),
        smiles=_strings([record.smiles if record else None for record in good]),
        inchikey=_strings([record.inchikey if record else None for record in good]),
        z=flat_z,
        z_count=z_count,
        pos=np.concatenate([np.zeros(0), *pos]),
        pos_count=np.array([len(part) for part in pos], np.int64),
        ragged=np.zeros(n, bool),
        y=targets,
        excluded=np.zeros(n, bool),
        fault=fault,
        why=pa.array(why, pa.large_string()),
        text=pa.table(text) if text else pa.table({"": pa.nulls(n)}).select([]),
        stated=StatedStates.nothing(n),
    )


def _stated(record: Record | None, kind: str) -> str | None:
    return _said(record, stating_columns(record.values).get(kind, "")) if record else None


def _said(record: Record | None, column: str) -> str | None:
    return record.values.get(column) if record else None


def _strings(values: list[str | None]) -> pa.Array:
    return pa.array([value.strip() or None if value else None for value in values], pa.large_string())
