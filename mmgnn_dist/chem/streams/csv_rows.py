"""The rows of a table in text form: delimiter, comments and quotes as people and Excel write them.

A quote that is never closed costs only its own line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mmgnn_dist.chem.checks import OVERSIZED, UNREADABLE, BadRecord

MAX_LINE = 1 << 20
DELIMITERS = ",;\t|"
QUOTED_LINES = 50  # most lines of one quoted field
SEPARATOR = re.compile(r"\"?sep=(.)\"?\s*", re.IGNORECASE)  # Excel's first line
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*")
DECIMAL_POINT = re.compile(r"\s*[-+]?\d*\.\d*(?:[eE][-+]?\d+)?\s*")

Fields = list[str] | BadRecord


@dataclass(frozen=True)
class CsvHead:
    """The header of a table.

    Attributes:
        names: names of its columns; "" for one without a name.
        delimiter: the character between fields.
        first: the first row, if it was read to find the header.
    """

    names: tuple[str, ...]
    delimiter: str
    first: str | None = None


class LineStream(Protocol):
    """What lines are read from."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, at most `size` bytes of it; none at the end."""
        ...


def csv_table(stream: LineStream) -> tuple[CsvHead | BadRecord, Iterator[Fields]]:
    """Return the header of a table and an iterator over its rows, without blank lines.

    Lines with `#` before the header are comments, unless the header itself begins so.
    """
    records = _records(stream)
    try:
        head = _head(records)
    except BadRecord as error:
        return error, iter(())
    return head, _rows(records, head)


def has_smiles(names: tuple[str, ...]) -> bool:
    """Whether a column is called smiles, in any case."""
    return any(name.strip().lower() == "smiles" for name in names)


def _head(records: Iterator[str | BadRecord]) -> CsvHead:
    """Read the header.

    Raises:
        BadRecord: the first line cannot be read, or a fault of the stream.
    """
    delimiter, comment = "", ""
    for record in records:
        if isinstance(record, BadRecord):
            raise record
        if not delimiter and not comment and (match := SEPARATOR.fullmatch(record)):
            delimiter = match[1]
            continue
        if record.startswith("#"):
            comment = record.lstrip("# ")
            continue
        names = _names(record, delimiter)
        if comment and not has_smiles(names) and has_smiles(_names(comment, delimiter)):
            return CsvHead(_names(comment, delimiter), delimiter or _delimiter(comment), record)
        return CsvHead(names, delimiter or _delimiter(record))
    return CsvHead((), delimiter or DELIMITERS[0])


def _rows(records: Iterator[str | BadRecord], head: CsvHead) -> Iterator[Fields]:
    """Yield the rows after the header; a fault of the stream is the last one."""
    if head.first is not None:
        yield _split(head.first, head.delimiter)
    try:
        for record in records:
            yield record if isinstance(record, BadRecord) else _split(record, head.delimiter)
    except BadRecord as error:
        yield error


def _names(record: str, delimiter: str) -> tuple[str, ...]:
    fields = _split(record, delimiter or _delimiter(record))
    if isinstance(fields, BadRecord):
        raise fields
    return tuple(name.strip() for name in fields)


def _split(record: str, delimiter: str) -> Fields:
    try:
        return next(csv.reader(io.StringIO(record), delimiter=delimiter), [])
    except csv.Error as error:
        return BadRecord(UNREADABLE, str(error))


def _delimiter(header: str) -> str:
    return max(DELIMITERS, key=header.count)


def _records(stream: LineStream) -> Iterator[str | BadRecord]:
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


def _lines(stream: LineStream) -> Iterator[str | BadRecord]:
    while line := stream.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            size = len(line)
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
                size += len(line)
            yield BadRecord(OVERSIZED, f"a line of {size} bytes")
            continue
        yield line.decode("utf-8", "replace").replace("\0", "")
