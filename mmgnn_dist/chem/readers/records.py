"""Sources of raw records: XYZ, SD files, QM9's archive, formats of plugins; alone, in folders and archives.

A first pass over the file counts its records and learns its columns; the second yields the raw records in
blocks, and the task that receives a block parses it. Both passes cut records in the same way, so the count
equals the number of records read.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from mmgnn_dist.chem.checks import BOMB, DAMAGED, REASONS, UNREADABLE, BadRecord
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.readers.containers import members, passed_over
from mmgnn_dist.chem.readers.formats import format_name, record_formats, record_suffixes
from mmgnn_dist.chem.readers.record import Census, Record, assemble, target_values
from mmgnn_dist.chem.readers.record_format import RecordFormat
from mmgnn_dist.chem.readers.sdf import qm9_id
from mmgnn_dist.chem.readers.source import (
    IDENTIFIERS,
    QM9_EXTRA,
    QM9_UNITS,
    TEXT_COLUMNS,
    SequentialStream,
    Source,
    Spread,
    is_qm9_table,
    one_line,
    qm9_list,
    qm9_notes,
    resolve_targets,
)
from mmgnn_dist.chem.states.charge_spin import with_record_states
from mmgnn_dist.errors import UserError

QM9_TOTAL = 133885
PARSE_ERRORS = (ValueError, LookupError, RuntimeError, OverflowError)  # RDKit's among them
EXTXYZ_WORDS = frozenset({"Properties", "Lattice", "pbc", *IDENTIFIERS})
RAW = pa.schema(
    [
        ("name", pa.large_string()),
        ("format", pa.large_string()),
        ("raw", pa.large_binary()),
        ("fault", pa.int8()),
        ("why", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class RecordSource(Source):
    """A file, folder or archive of raw records.

    Attributes:
        digest: SHA-256 of all raw records.
        size: bytes on disk.
        side: a CSV with the values of the molecules, such as PyG's gdb9.sdf.csv; None if there is none.
    """

    digest: str = ""
    size: int = 0
    side: Path | None = None

    sequential = True

    @property
    def makes_ids(self) -> bool:
        """Whether made ids begin with the source's name; in a folder, they begin with those of its files."""
        return not self.qm9 and not self.path.is_dir()

    @property
    def bytes(self) -> int:
        """Size on disk; for a folder, of all its files."""
        return self.size

    def content(self) -> list[Any]:
        """Return the values that identify the content."""
        return [self.digest, sorted(self.excluded)]

    def stream(self, start: int) -> RecordStream:
        """Open a stream at record `start`."""
        return RecordStream(self.path, start)

    def convert(self, table: pa.Table, start: int, order: list[str], spread: Spread = map) -> Molecules:
        """Parse raw records."""
        records: list[Record | BadRecord] = []
        y: list[list[float]] = []
        names = table["name"].to_pylist()
        for row in table.to_pylist():
            try:
                record = self._parse(row)
                values = target_values(record.values, self.targets, order)
            except BadRecord as error:
                records.append(error)
                y.append([])
            else:
                records.append(record)
                y.append(values)
        molecules = assemble(self.name, start, names, records, y, len(order), self.columns)
        molecules.excluded[:] = self.is_excluded(molecules.id)
        return with_record_states(molecules, records, self.targets, self.spin_is_2s)

    def _parse(self, row: dict[str, Any]) -> Record:
        if row["fault"]:
            raise BadRecord(REASONS[row["fault"]], row["why"])
        try:
            record = record_formats()[row["format"]].parse(row["raw"], row["name"])
        except PARSE_ERRORS as error:
            raise BadRecord(UNREADABLE, one_line(error)) from None
        if self.side:
            side_values = side_table(self.side).get(record.id)
            if side_values is None:
                raise BadRecord(UNREADABLE, f"{record.id} has no row in {self.side.name}")
            record.values |= side_values
        return record


class RecordStream(SequentialStream[dict[str, Any]]):
    """The raw records of a source in order."""

    def __init__(self, path: Path, start: int):
        super().__init__(path, raw_records(path), start)

    def table(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Return records in the form of `RAW`."""
        return pa.Table.from_pylist(rows, schema=RAW)


def raw_records(path: Path, passed: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield every record of a file, folder or archive as a row of `RAW`, including broken ones.

    Args:
        path: the file, folder or archive.
        passed: as in `containers.members`.
    """
    formats = record_formats()
    for member in members(path, record_suffixes(), passed):
        kind = format_name(member.suffix)
        if isinstance(member.content, BadRecord):
            yield _row(member.name, kind, member.content)
            continue
        pending = None
        for number, record in enumerate(_cut(formats[kind], member.content)):
            if pending is not None:
                yield _row(f"{member.name}-{number - 1}", kind, pending)
            pending = record
            last = number
        if pending is not None:
            yield _row(f"{member.name}-{last}" if last else member.name, kind, pending)


def _cut(kind: RecordFormat, stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """Yield the records of a stream; a fault of the stream becomes the last record."""
    try:
        yield from kind.cut(stream)
    except BadRecord as error:
        yield error


def inspect_records(path: Path, name: str, units: dict[str, str]) -> RecordSource:
    """Count the records of a source and learn its columns.

    Raises:
        UserError: see `find_sources`.
    """
    census, digest, faults = Census(), hashlib.sha256(), Counter[str]()
    rows = qm9 = 0
    first_fault, passed, used_formats = "", list[str](), set[str]()
    for row in raw_records(path, passed):
        rows += 1
        digest.update(row["raw"])
        digest.update(b"%d" % row["fault"])
        if row["fault"]:
            faults[REASONS[row["fault"]]] += 1
            first_fault = first_fault or row["why"]
            continue
        used_formats.add(row["format"])
        kind = record_formats()[row["format"]]
        qm9 += kind.is_qm9(row["raw"])
        with suppress(BadRecord, *PARSE_ERRORS):  # such a record is set aside when it is parsed
            census.add(kind.columns(row["raw"]))
    columns = census.columns(units)
    side: Path | None = path.with_name(path.name + ".csv")
    if not path.is_file() or side is None or not side.is_file():
        side = None
    elif not qm9:
        raise UserError(f"{side} is next to {path.name}, whose titles are not those of QM9: move it away")
    if side:
        columns = [(column, "") for column in QM9_UNITS]
        digest.update(side.read_bytes())
        side_table(side)
    original = qm9 > 0 and {name for name, _ in columns} >= set(QM9_UNITS)
    non_targets = {*EXTXYZ_WORDS, *TEXT_COLUMNS, *(QM9_EXTRA if original else ())}
    targets, ignored = resolve_targets(path, columns, (QM9_UNITS if original else {}) | units, non_targets)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    excluded = qm9_list(path if path.is_dir() else path.parent) if original else frozenset[int]()
    notes = _notes(path, rows, faults, first_fault, original)
    notes += qm9_notes(path, excluded) if original else ()
    if unread := passed_over(path.name, passed):
        notes += (f"{unread[0]}: archives are read for {' and '.join(record_formats())} files",)
    return RecordSource(
        path=path,
        name=name,
        rows=rows,
        columns=tuple(column for column, _ in columns),
        qm9=original,
        targets=targets,
        ignored=ignored,
        excluded=excluded,
        notes=notes,
        formats=tuple(sorted(used_formats)),
        digest=digest.hexdigest(),
        size=sum(file.stat().st_size for file in files),
        side=side,
    )


@lru_cache(maxsize=2)
def side_table(path: Path) -> dict[str, dict[str, str]]:
    """Return QM9's values by id, from a CSV with its columns.

    Raises:
        UserError: the CSV lacks columns of QM9.
    """
    with open(path, encoding="utf-8", errors="replace", newline="") as content:
        reader = csv.DictReader(line.replace("\0", "") for line in content)
        if not is_qm9_table(reader.fieldnames or []):
            raise UserError(f"{path} lacks columns of QM9: it needs mol_id, A, B, C, {', '.join(QM9_UNITS)}")
        return {
            qm9_id(row["mol_id"] or "") or "": {column: row[column] or "" for column in QM9_UNITS}
            for row in reader
        }


def _row(name: str, kind: str, record: bytes | BadRecord) -> dict[str, Any]:
    row = {"name": name, "format": kind, "raw": b"", "fault": 0, "why": None}
    if isinstance(record, BadRecord):
        return row | {"fault": REASONS.index(record.reason), "why": record.detail}
    return row | {"raw": record}


def _notes(path: Path, rows: int, faults: Counter[str], first: str, qm9: bool) -> tuple[str, ...]:
    notes = []
    if broken := faults[DAMAGED] + faults[BOMB]:
        notes.append(
            f"{path.name} is damaged in {broken} places, and their content is missing ({first}): get it anew"
        )
    if qm9 and rows < QM9_TOTAL:
        notes.append(f"{path.name} is a part of QM9: {rows} of {QM9_TOTAL} molecules")
    return tuple(notes)
