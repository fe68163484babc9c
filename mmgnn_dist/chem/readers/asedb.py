"""ASE databases (.db), read through ase.db: geometry, key-value pairs, properties and scalar data.

By ASE's convention `energy` is in eV and positions are in Å; SchNetPack's databases give the units of their
data and positions in their metadata. Rows that cannot be read are set aside, and so are periodic structures.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import DAMAGED, PERIODIC, REASONS, UNREADABLE, BadRecord
from mmgnn_dist.chem.readers.source import IDENTIFIERS, TEXT_COLUMNS, one_line, resolve_targets
from mmgnn_dist.chem.readers.table import FAULT, WHY, TableSource
from mmgnn_dist.chem.targets import BOHR_ANGSTROM, target_for
from mmgnn_dist.errors import UserError, need

SIGN = b"SQLite format 3\0"
ENERGY_UNIT = "eV"
UNIT_METADATA, LENGTH_METADATA = "_property_unit_dict", "_distance_unit"  # SchNetPack's
LENGTHS = {"ang": 1.0, "angstrom": 1.0, "å": 1.0, "bohr": BOHR_ANGSTROM, "a0": BOHR_ANGSTROM, "nm": 10.0}  # Å
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


@dataclass(frozen=True)
class AseSource(TableSource):
    """An ASE database.

    Attributes:
        keys: row ids of the database, in order.
        length: length unit of its positions, Å.
    """

    keys: tuple[int, ...] = ()
    length: float = 1.0

    def stream(self, start: int) -> AseStream:
        """Open a stream at row `start`."""
        return AseStream(self, start)


class AseStream:
    """Rows of a database as tables of geometry."""

    def __init__(self, source: AseSource, start: int):
        self.source, self.position = source, start
        self._database = _connect(source.path)

    def read(self, rows: int) -> pa.Table:
        """Read the next `rows` rows; those that cannot be read are marked."""
        keys = self.source.keys[self.position : self.position + rows]
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
        for name in text_names:
            columns[name] = pa.array([_text(row.get(name)) for row in good], pa.large_string())
        return pa.table(columns)

    def _row(self, key: int) -> dict[str, Any] | BadRecord:
        try:
            row = self._database.get(id=key)
            if any(row.pbc):
                return BadRecord(PERIODIC, "pbc=" + " ".join("FT"[bool(axis)] for axis in row.pbc))
            return _values(row) | {
                "numbers": np.asarray(row.numbers, np.int64).tolist(),
                "positions": (np.asarray(row.positions, np.float64) * self.source.length).ravel().tolist(),
            }
        except sqlite3.DatabaseError as error:
            return BadRecord(DAMAGED, one_line(error))
        except FAILURES as error:
            return BadRecord(UNREADABLE, f"row {key}: {one_line(error)}")


def inspect_asedb(path: Path, name: str, units: dict[str, str]) -> AseSource:
    """Recognise an ASE database.

    Raises:
        UserError: the file is no ASE database; also see `readers.find_sources`.
    """
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM systems ORDER BY id")]
            numbers = {row[0] for row in connection.execute("SELECT DISTINCT key FROM number_key_values")}
            texts = {row[0] for row in connection.execute("SELECT DISTINCT key FROM text_key_values")}
        connection.close()
        database = _connect(path)
        metadata_units = dict(database.metadata.get(UNIT_METADATA, {}))
        length = str(database.metadata.get(LENGTH_METADATA, "Ang"))
    except FAILURES as error:
        raise UserError(f"{path} is not a readable ASE database ({one_line(error)}): get it anew") from None
    if length.lower() not in LENGTHS:
        raise UserError(
            f"{path}: its metadata {LENGTH_METADATA} is '{length[:40]}', and positions are read in Ang, "
            "Bohr or nm: convert the positions and update it"
        )
    for row in _first(database, ids):
        numbers |= {key for key, value in _values(row).items() if isinstance(value, int | float)}
        texts |= {key for key, value in _values(row).items() if isinstance(value, str)}
    names = sorted(str(key) for key in numbers | texts)
    non_targets = {*IDENTIFIERS, *TEXT_COLUMNS}
    if "energy" in numbers:
        metadata_units = {"energy": ENERGY_UNIT} | metadata_units
    metadata_units = {
        key: str(unit) for key, unit in metadata_units.items() if key in numbers and _is_unit(key, str(unit))
    }
    kinds = [(key, "" if key in numbers else "text") for key in names]
    targets, ignored = resolve_targets(path, kinds, metadata_units | units, non_targets)
    return AseSource(
        path,
        name,
        len(ids),
        tuple(names),
        False,
        targets,
        ignored,
        keys=tuple(ids),
        length=LENGTHS[length.lower()],
    )


def _first(database: Any, ids: list[int]) -> Iterator[Any]:
    """Yield the first row that can be read; it shows which properties and data the rows have."""
    for key in ids[:100]:
        try:
            row = database.get(id=key)
            _values(row)
        except FAILURES:
            continue
        yield row
        return


def _is_unit(name: str, unit: str) -> bool:
    """Whether a unit of the metadata can be read; the recipe may name another unit."""
    try:
        target_for(name, unit)
    except UserError:
        return False
    return True


def _values(row: Any) -> dict[str, Any]:
    """Return the key-value pairs, the energy, and all data that is a single number."""
    values: dict[str, Any] = {}
    for name, value in dict(row.data or {}).items():
        if isinstance(value, int | float | np.ndarray | list) and np.size(value) == 1:
            number = np.asarray(value).ravel()[0]
            if isinstance(number, np.number | int | float):
                values[name] = float(number)
    for name, value in row.key_value_pairs.items():
        values[name] = value if isinstance(value, str) else float(value)
    if row.get("energy") is not None:
        values["energy"] = float(row.energy)
    return values


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else repr(value)


def _connect(path: Path) -> Any:
    try:
        from ase.db import connect
    except ImportError:
        raise need("ase", "data") from None
    return connect(str(path), type="db", use_lock_file=False)
