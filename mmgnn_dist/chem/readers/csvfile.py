"""CSV and TSV tables of SMILES, or of geometries as lists, with targets, also compressed.

Each row is one record. A row with too many or too few fields is set aside; a quote that is never closed
costs only its own line.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from mmgnn_dist.chem.checks import OVERSIZED, REASONS, UNREADABLE, BadRecord
from mmgnn_dist.chem.rdkit_tools import rdkit_version
from mmgnn_dist.chem.readers.columns import known_names
from mmgnn_dist.chem.readers.containers import members
from mmgnn_dist.chem.readers.frames import MAX_LINE
from mmgnn_dist.chem.readers.record import Census
from mmgnn_dist.chem.readers.source import (
    IDENTIFIERS,
    QM9_EXTRA,
    QM9_UNITS,
    TEXT_COLUMNS,
    SequentialStream,
    is_qm9_table,
    qm9_list,
    qm9_notes,
    resolve_targets,
)
from mmgnn_dist.chem.readers.table import FAULT, WHY, TableSource
from mmgnn_dist.chem.readers.tables.text_geometry import find_text_geometry
from mmgnn_dist.errors import UserError

SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t|"
LOOKED_AT_ROWS = 1000  # rows that show where the geometry is
QUOTED_LINES = 50  # most lines of one quoted field

Fields = list[str] | BadRecord


@dataclass(frozen=True)
class CsvSource(TableSource):
    """A CSV file.

    Attributes:
        digest: SHA-256 of its content.
    """

    digest: str = ""

    sequential = True

    @property
    def embeds(self) -> bool:
        """Whether its geometries are made from SMILES."""
        return "positions" not in self.columns

    def content(self) -> list[Any]:
        """Return the values that identify the content."""
        return [self.digest, sorted(self.excluded), rdkit_version()]

    def stream(self, start: int) -> CsvStream:
        """Open a stream at row `start`."""
        return CsvStream(self.path, self.columns, start)


class CsvStream(SequentialStream[Fields]):
    """Rows of a CSV file as a table of text."""

    def __init__(self, path: Path, columns: tuple[str, ...], start: int):
        rows = csv_rows(path)
        next(rows, None)  # the header
        super().__init__(path, rows, start)
        self.columns = columns

    def table(self, rows: list[Fields]) -> pa.Table:
        """Return rows as columns of text, with the verdict on each row."""
        verdicts = [_verdict(row, len(self.columns)) for row in rows]
        columns: dict[str, Any] = {}
        for index, name in enumerate(self.columns):
            values = [
                row[index] if verdict is None and isinstance(row, list) else None
                for row, verdict in zip(rows, verdicts, strict=True)
            ]
            columns[name] = pa.array(values, pa.large_string())
        columns[FAULT] = pa.array([REASONS.index(bad.reason) if bad else 0 for bad in verdicts], pa.int8())
        columns[WHY] = pa.array([bad.detail if bad else None for bad in verdicts], pa.large_string())
        return pa.table(columns)


def inspect_csv(path: Path, name: str, units: dict[str, str]) -> CsvSource:
    """Count the rows of a CSV file and learn its columns.

    Raises:
        UserError: there are no SMILES and no geometries; also see `readers.find_sources`.
    """
    rows = csv_rows(path)
    header = next(rows, None)
    if isinstance(header, BadRecord):
        raise UserError(f"{path} cannot be read ({header}): get it anew")
    in_file = tuple(word.strip() for word in header or [])
    known = known_names(path, in_file, units)
    columns = tuple(known.get(name, name) for name in in_file)
    head: list[dict[str, str]] = []
    census, digest, count = Census(), hashlib.sha256(repr(columns).encode()), 0
    for row in rows:
        count += 1
        digest.update(repr(row).encode("utf-8", "replace"))
        if _verdict(row, len(columns)) is None and isinstance(row, list):
            values = dict(zip(columns, row, strict=True))
            census.add(values)
            if len(head) < LOOKED_AT_ROWS:
                head.append(values)
    layout = find_text_geometry(path, columns, head)
    renamed = layout.known_columns()
    kinds = census.columns(units)
    qm9 = is_qm9_table(columns)
    non_targets = {*IDENTIFIERS, *TEXT_COLUMNS, *renamed, *(QM9_EXTRA if qm9 else ())}
    targets, ignored = resolve_targets(path, kinds, (QM9_UNITS if qm9 else {}) | units, non_targets)
    excluded = qm9_list(path.parent) if qm9 else frozenset[int]()
    return CsvSource(
        path,
        name,
        count,
        tuple(renamed.get(name, name) for name in columns),
        qm9,
        targets,
        ignored,
        excluded,
        (*layout.notes, *(qm9_notes(path, excluded) if qm9 else ())),
        renamed=tuple(renamed.items()),
        axes_first=layout.axes_first,
        padded=layout.padded,
        digest=digest.hexdigest(),
    )


def csv_rows(path: Path) -> Iterator[Fields]:
    """Yield the records of a CSV file, the header first; skip blank lines."""
    for member in members(path, SUFFIXES):
        if isinstance(member.content, BadRecord):
            yield member.content
            continue
        delimiter = ""
        try:
            for record in _records(member.content):
                if isinstance(record, BadRecord):
                    yield record
                    continue
                delimiter = delimiter or _delimiter(record)
                try:
                    yield next(csv.reader(io.StringIO(record), delimiter=delimiter), [])
                except csv.Error as error:
                    yield BadRecord(UNREADABLE, str(error))
        except BadRecord as error:
            yield error


def _records(stream: IO[bytes]) -> Iterator[str | BadRecord]:
    """Yield logical lines: physical lines joined while a quote is open."""
    lines = _lines(stream)
    pending: list[str] = []  # lines to read again after a quote that was never closed
    while True:
        line = pending.pop(0) if pending else next(lines, None)
        if line is None:
            return
        if isinstance(line, BadRecord) or not line.strip():
            if isinstance(line, BadRecord):
                yield line
            continue
        parts = [line]
        quotes = line.count('"')
        while quotes % 2 and len(parts) < QUOTED_LINES:
            next_line = pending.pop(0) if pending else next(lines, None)
            if next_line is None or isinstance(next_line, BadRecord):
                if isinstance(next_line, BadRecord):
                    yield next_line
                break
            parts.append(next_line)
            quotes += next_line.count('"')
        if quotes % 2:
            pending = parts[1:] + pending
            yield BadRecord(UNREADABLE, f"a quote is never closed: {line.strip()[:60]}")
        else:
            yield "".join(parts)


def _lines(stream: IO[bytes]) -> Iterator[str | BadRecord]:
    first = True
    while line := stream.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            size = len(line)
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
                size += len(line)
            yield BadRecord(OVERSIZED, f"a line of {size} bytes")
            continue
        text = line.decode("utf-8", "replace").replace("\0", "")
        yield text.removeprefix("\ufeff") if first else text
        first = False


def _delimiter(header: str) -> str:
    return max(DELIMITERS, key=header.count)


def _verdict(row: Fields, columns: int) -> BadRecord | None:
    if isinstance(row, BadRecord):
        return row
    if len(row) != columns:
        return BadRecord(UNREADABLE, f"{len(row)} fields where the header has {columns}")
    return None
