"""ASE databases, in SQLite (.db) and LMDB (.aselmdb): geometry, key-value pairs, properties and scalar data.

By ASE's convention `energy` is in eV and positions are in Å; SchNetPack's databases give the units of their
data and positions in their metadata. Rows that cannot be read are set aside, and so are periodic structures.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import DAMAGED, PERIODIC, REASONS, UNREADABLE, BadRecord
from mmgnn_dist.chem.own_targets.classes import class_name
from mmgnn_dist.chem.own_targets.target_columns import declared_columns, other_units, resolve_targets
from mmgnn_dist.chem.own_targets.target_names import known_name
from mmgnn_dist.chem.own_targets.values import is_value
from mmgnn_dist.chem.readers.columns import known_names
from mmgnn_dist.chem.readers.source import IDENTIFIERS, TEXT_COLUMNS, one_line, printable
from mmgnn_dist.chem.readers.table import FAULT, WHY, TableSource
from mmgnn_dist.chem.readers.tables.array_layouts import LENGTHS
from mmgnn_dist.chem.readers.tables.lmdb_rows import LmdbRows
from mmgnn_dist.chem.readers.tables.sqlite_rows import SqliteRows
from mmgnn_dist.chem.states.charge_spin import state_columns, sum_of_atoms
from mmgnn_dist.chem.states.electronic_state import CHARGE_COLUMNS, MULTIPLICITY_COLUMNS, SPIN_COLUMN
from mmgnn_dist.chem.targets import is_unit
from mmgnn_dist.config import Declared
from mmgnn_dist.errors import UserError

CHARGE, MULTIPLICITY = "charge", "multiplicity"
LMDB_SUFFIX = ".aselmdb"
LOOKED_AT = 100  # rows that are tried for the names of properties and data
ENERGY_UNIT = "eV"
UNIT_METADATA, LENGTH_METADATA = "_property_unit_dict", "_distance_unit"  # SchNetPack's
FAILURES = (
    sqlite3.Error,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    OSError,
)


class RowStore(Protocol):
    """The rows of a database, whatever holds them."""

    keys: np.ndarray
    metadata: dict[str, Any]
    numbers: set[str]
    texts: set[str]

    def row(self, key: int) -> Any:
        """Return the row with an id, an `ase.db.row.AtomsRow`."""
        ...


@dataclass(frozen=True)
class AseSource(TableSource):
    """An ASE database.

    Attributes:
        keys: row ids of the database, in order, int64 [rows].
        length: length unit of its positions, Å.
    """

    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    length: float = 1.0

    def stream(self, start: int) -> AseStream:
        """Open a stream at row `start`."""
        return AseStream(self, start)


class AseStream:
    """Rows of a database as tables of geometry."""

    def __init__(self, source: AseSource, start: int):
        self.source, self.position = source, start
        self._database = open_rows(source.path)
        self._names = dict(source.renamed)

    def read(self, rows: int) -> pa.Table:
        """Read the next `rows` rows; those that cannot be read are marked."""
        keys = self.source.keys[self.position : self.position + rows].tolist()
        self.position += rows
        entries = [self._row(key) for key in keys]
        bad = [row if isinstance(row, BadRecord) else None for row in entries]
        good = [row if isinstance(row, dict) else {} for row in entries]
        target_names = [column for column, _, _ in self.source.targets]
        wanted = dict.fromkeys((*IDENTIFIERS, *TEXT_COLUMNS, *(column for _, column in self.source.own_text)))
        text_names = [name for name in wanted if name in self.source.columns]
        columns: dict[str, Any] = {
            "atomic_numbers": pa.array([row.get("numbers", []) for row in good], pa.large_list(pa.int64())),
            "positions": pa.array([row.get("positions", []) for row in good], pa.large_list(pa.float64())),
            FAULT: pa.array([REASONS.index(fault.reason) if fault else 0 for fault in bad], pa.int8()),
            WHY: pa.array([fault.detail if fault else None for fault in bad], pa.large_string()),
        }
        for name in target_names:
            columns[name] = pa.array([_text(row.get(name)) for row in good], pa.large_string())
        stated = state_columns({name for row in good for name in row}, self.source.targets)
        for name in sorted(stated):
            columns[name] = pa.array([_text(row.get(name)) for row in good], pa.large_string())
        for name in text_names:
            columns[name] = pa.array([_text(row.get(name)) for row in good], pa.large_string())
        return pa.table(columns)

    def _row(self, key: int) -> dict[str, Any] | BadRecord:
        try:
            row = self._database.row(key)
            if any(row.pbc):
                return BadRecord(PERIODIC, "pbc=" + " ".join("FT"[bool(axis)] for axis in row.pbc))
            values = {self._names.get(name, name): value for name, value in _values(row).items()}
            return _with_initial_state(values, row) | {
                "numbers": np.asarray(row.numbers, np.int64).tolist(),
                "positions": (np.asarray(row.positions, np.float64) * self.source.length).ravel().tolist(),
            }
        except BadRecord as error:
            return error
        except sqlite3.DatabaseError as error:
            return BadRecord(DAMAGED, one_line(error))
        except FAILURES as error:
            return BadRecord(UNREADABLE, f"row {key}: {one_line(error)}")


def inspect_asedb(path: Path, name: str, declared: Declared) -> AseSource:
    """Recognise an ASE database.

    Raises:
        UserError: the file is no ASE database; also see `readers.find_sources`.
    """
    try:
        database = open_rows(path)
        metadata_units = dict(database.metadata.get(UNIT_METADATA, {}))
        length = str(database.metadata.get(LENGTH_METADATA, "Ang"))
    except FAILURES as error:
        raise UserError(f"{path} is not a readable ASE database ({one_line(error)}): get it anew") from None
    if length.lower() not in LENGTHS:
        raise UserError(
            f"{path}: its metadata {LENGTH_METADATA} is '{length[:40]}', and positions are read in Ang, "
            "Bohr or nm: convert the positions and update it"
        )
    numbers, texts = set(database.numbers), set(database.texts)
    for values in _first_values(database, 1 if numbers | texts else LOOKED_AT):
        numbers |= {key for key, value in values.items() if isinstance(value, int | float)}
        texts |= {key for key, value in values.items() if isinstance(value, str)}
    in_file = sorted(str(key) for key in numbers | texts)
    known = known_names(path, in_file, declared_columns(declared))
    names = sorted(known.get(name, name) for name in in_file)
    non_targets = {*IDENTIFIERS, *TEXT_COLUMNS}
    if "energy" in numbers:
        metadata_units = {"energy": ENERGY_UNIT} | metadata_units
    metadata_units = {
        key: str(unit)
        for key, unit in metadata_units.items()
        if key in numbers and is_unit(known_name(key) or key, str(unit))
    }

    def classes(column: str) -> set[str]:
        rows = (_values(database.row(key)) for key in database.keys.tolist())
        renamed_rows = ({known.get(name, name): value for name, value in row.items()} for row in rows)
        return {name for row in renamed_rows if (name := class_name(row.get(column)))}

    wanted = declared_columns(declared)
    with_units = {
        key
        for values in _first_values(database, LOOKED_AT if {key.lower() for key in texts} & wanted else 1)
        for key, value in values.items()
        if key.lower() in wanted and isinstance(value, str) and is_value(value)
    }
    kinds = [(known.get(key, key), "" if key in numbers | with_units else "text") for key in in_file]
    targets, ignored = resolve_targets(path, kinds, metadata_units | declared, non_targets, classes)
    return AseSource(
        path,
        name,
        len(database.keys),
        tuple(names),
        False,
        targets,
        ignored,
        notes=tuple(f"{path.name}: {printable(line)}" for line in other_units(metadata_units, declared)),
        renamed=tuple(known.items()),
        keys=database.keys,
        length=LENGTHS[length.lower()],
    )


def _first_values(database: RowStore, count: int) -> Iterator[dict[str, Any]]:
    """Yield the values of the first rows that can be read; they show which properties and data rows have."""
    for key in database.keys[:LOOKED_AT].tolist():
        try:
            values = _values(database.row(key))
        except (*FAILURES, BadRecord):
            continue
        yield values
        count -= 1
        if not count:
            return


def _values(row: Any) -> dict[str, Any]:
    """Return the key-value pairs, the energy, and all data that is a single number."""
    values: dict[str, Any] = {}
    for name, value in dict(row.data or {}).items():
        if isinstance(value, int | float | np.ndarray | list) and np.size(value) == 1:
            number = np.asarray(value).ravel()[0]
            if isinstance(number, np.number | int | float):
                values[name] = float(number)
    for name in row.key_value_pairs:
        value = vars(row)[name]  # a property of ASE's rows, such as `charge`, hides a key of its name
        values[name] = value if isinstance(value, str) else float(value)
    if row.get("energy") is not None:
        values["energy"] = float(row.energy)
    return values


def _with_initial_state(values: dict[str, Any], row: Any) -> dict[str, Any]:
    """Add the charge and multiplicity that the initial charges and magnetic moments of the atoms mean.

    They are the start of a calculation: keys of the row come first, and moments count only if they sum to a
    number of unpaired electrons that the molecule can have.
    """
    names = {name.lower(): name for name in values}
    charge = next((values[names[name]] for name in CHARGE_COLUMNS if name in names), None)
    if charge is None and (charge := sum_of_atoms(row.get("initial_charges"))) is not None:
        values = values | {CHARGE: charge}
    unpaired = sum_of_atoms(row.get("initial_magmoms"))
    if unpaired is not None and names.keys().isdisjoint({*MULTIPLICITY_COLUMNS, SPIN_COLUMN}):
        electrons = float(np.sum(row.numbers)) - (charge if isinstance(charge, float) else 0.0)
        if (electrons - unpaired) % 2 == 0:
            values = values | {MULTIPLICITY: abs(unpaired) + 1}
    return values


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else repr(value)


def open_rows(path: Path) -> RowStore:
    """Open the rows of a database by its suffix."""
    return LmdbRows(path) if path.suffix.lower() == LMDB_SUFFIX else SqliteRows(path)
