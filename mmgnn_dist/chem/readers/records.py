"""Sources of raw records: XYZ, SD files and QM9's archive, alone, in folders and in archives.

A first pass over the file counts its records and learns its columns; the second hands the raw records out in
blocks, and whoever gets a block parses it. Both passes cut alike, so what is counted is what is read.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmgnn_dist.chem.checks import BOMB, DAMAGED, REASONS, UNREADABLE, BadRecord
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.readers.containers import members, passed_over
from mmgnn_dist.chem.readers.frames import SDF_SUFFIXES, XYZ_SUFFIXES, frames
from mmgnn_dist.chem.readers.record import Census, Record, assemble, target_values
from mmgnn_dist.chem.readers.sdf import data_fields, parse_sdf, qm9_id, title
from mmgnn_dist.chem.readers.source import (
    IDENTIFIERS,
    QM9_EXTRA,
    QM9_UNITS,
    TEXT_COLUMNS,
    Source,
    Spread,
    is_qm9_table,
    one_line,
    qm9_list,
    qm9_notes,
    resolve_targets,
)
from mmgnn_dist.chem.readers.xyz import pairs, parse_xyz, qm9_index, second_line
from mmgnn_dist.errors import UserError

SUFFIXES = (*XYZ_SUFFIXES, *SDF_SUFFIXES)
QM9_TOTAL = 133885
EXTXYZ_WORDS = frozenset({"Properties", "Lattice", "pbc", *IDENTIFIERS})
RAW = pa.schema(
    [
        ("name", pa.large_string()),
        ("sdf", pa.bool_()),
        ("raw", pa.large_binary()),
        ("fault", pa.int8()),
        ("why", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class RecordSource(Source):
    """A file, folder or archive of XYZ or SD records.

    Attributes:
        digest: SHA-256 of all raw records.
        size: bytes on disk.
        side: a CSV with the values of the molecules, as PyG's gdb9.sdf.csv, if there is one.
    """

    digest: str = ""
    size: int = 0
    side: Path | None = None

    sequential = True

    @property
    def makes_ids(self) -> bool:
        """Ids that are made begin with the name of the file or member, which folders may repeat."""
        return not self.qm9 and not self.path.is_dir()

    @property
    def bytes(self) -> int:
        """Size on disk, of all files of a folder."""
        return self.size

    def content(self) -> list[Any]:
        """What tells one content from another."""
        return [self.digest, sorted(self.excluded)]

    def stream(self, start: int) -> RecordStream:
        """Read on from record `start`."""
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
        return molecules

    def _parse(self, row: dict[str, Any]) -> Record:
        if row["fault"]:
            raise BadRecord(REASONS[row["fault"]], row["why"])
        try:
            record = (parse_sdf if row["sdf"] else parse_xyz)(row["raw"], row["name"])
        except (ValueError, RuntimeError, OverflowError) as error:  # RDKit's ways of refusing
            raise BadRecord(UNREADABLE, one_line(error)) from None
        if self.side:
            found = side_table(self.side).get(record.id)
            if found is None:
                raise BadRecord(UNREADABLE, f"{record.id} has no row in {self.side.name}")
            record.values |= found
        return record


class RecordStream:
    """The raw records of a source, one after the other."""

    def __init__(self, path: Path, start: int):
        self.path, self.position = path, start
        self._records = raw_records(path)
        for _ in range(start):
            next(self._records, None)

    def read(self, rows: int) -> pa.Table:
        """The next `rows` records.

        Raises:
            UserError: the file has become shorter since it was counted.
        """
        found = [record for _, record in zip(range(rows), self._records, strict=False)]
        if len(found) < rows:
            raise UserError(f"{self.path} has changed since it was counted: start again")
        self.position += rows
        return pa.Table.from_pylist(found, schema=RAW)


def raw_records(path: Path, passed: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Every record of a file, folder or archive as a row of `RAW`, the broken ones included.

    Args:
        path: where they are. passed: as `containers.members` takes it.
    """
    for member in members(path, SUFFIXES, passed):
        if isinstance(member.content, BadRecord):
            yield _row(member.name, False, member.content)
            continue
        sdf = member.suffix in SDF_SUFFIXES
        pending = None
        for number, record in enumerate(frames(member.content, sdf)):
            if pending is not None:
                yield _row(f"{member.name}-{number - 1}", sdf, pending)
            pending = record
            last = number
        if pending is not None:
            yield _row(f"{member.name}-{last}" if last else member.name, sdf, pending)


def inspect_records(path: Path, name: str, units: dict[str, str]) -> RecordSource:
    """Count the records of a source and learn its columns.

    Raises:
        UserError: see `find_sources`.
    """
    census, digest, faults = Census(), hashlib.sha256(), Counter[str]()
    rows = qm9 = 0
    first, passed = "", list[str]()
    for row in raw_records(path, passed):
        rows += 1
        digest.update(row["raw"])
        digest.update(b"%d" % row["fault"])
        if row["fault"]:
            faults[REASONS[row["fault"]]] += 1
            first = first or row["why"]
        elif row["sdf"]:
            census.add(data_fields(row["raw"]))
            qm9 += qm9_id(title(row["raw"])) is not None
        else:
            comment = second_line(row["raw"])
            is_qm9 = qm9_index(comment) is not None
            qm9 += is_qm9
            census.add(dict.fromkeys(QM9_UNITS, "0") if is_qm9 else pairs(comment))
    columns = census.columns(units)
    side: Path | None = path.with_name(path.name + ".csv")
    if not path.is_file() or side is None or not side.is_file():
        side = None
    elif not qm9:
        raise UserError(f"{side} stands beside {path.name}, whose titles are not those of QM9: move it away")
    if side:
        columns = [(column, "") for column in QM9_UNITS]
        digest.update(side.read_bytes())
        side_table(side)
    original = qm9 > 0 and {name for name, _ in columns} >= set(QM9_UNITS)
    known = {*EXTXYZ_WORDS, *TEXT_COLUMNS, *(QM9_EXTRA if original else ())}
    targets, ignored = resolve_targets(path, columns, (QM9_UNITS if original else {}) | units, known)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    excluded = qm9_list(path if path.is_dir() else path.parent) if original else frozenset[int]()
    notes = _notes(path, rows, faults, first, original)
    notes += qm9_notes(path, excluded) if original else ()
    if unread := passed_over(path.name, passed):
        notes += (f"{unread[0]}: archives are read for XYZ and SD files",)
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
        digest=digest.hexdigest(),
        size=sum(file.stat().st_size for file in files),
        side=side,
    )


@lru_cache(maxsize=2)
def side_table(path: Path) -> dict[str, dict[str, str]]:
    """QM9's values by its id, from a CSV with its columns.

    Raises:
        UserError: another CSV.
    """
    with open(path, encoding="utf-8", errors="replace", newline="") as content:
        reader = csv.DictReader(line.replace("\0", "") for line in content)
        if not is_qm9_table(reader.fieldnames or []):
            raise UserError(f"{path} lacks columns of QM9: it needs mol_id, A, B, C, {', '.join(QM9_UNITS)}")
        return {
            qm9_id(row["mol_id"] or "") or "": {column: row[column] or "" for column in QM9_UNITS}
            for row in reader
        }


def _row(name: str, sdf: bool, record: bytes | BadRecord) -> dict[str, Any]:
    if isinstance(record, BadRecord):
        return {
            "name": name,
            "sdf": sdf,
            "raw": b"",
            "fault": REASONS.index(record.reason),
            "why": record.detail,
        }
    return {"name": name, "sdf": sdf, "raw": record, "fault": 0, "why": None}


def _notes(path: Path, rows: int, faults: Counter[str], first: str, qm9: bool) -> tuple[str, ...]:
    notes = []
    if broken := faults[DAMAGED] + faults[BOMB]:
        notes.append(
            f"{path.name} is damaged in {broken} places, and lacks what stood there ({first}): get it anew"
        )
    if qm9 and rows < QM9_TOTAL:
        notes.append(f"{path.name} is a part of QM9: {rows} of {QM9_TOTAL} molecules")
    return tuple(notes)
