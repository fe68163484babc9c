"""Raw records of a file, folder or archive: a row with a name for each, and numbers for those with one id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from mmgnn_dist.chem.checks import REASONS, BadRecord
from mmgnn_dist.chem.readers.formats import format_name, record_formats, record_suffixes
from mmgnn_dist.chem.readers.record_format import RecordFormat
from mmgnn_dist.chem.streams.members import Passed, members

PARSE_ERRORS = (ValueError, LookupError, RuntimeError, OverflowError)  # RDKit's among them
RAW = pa.schema(
    [
        ("name", pa.large_string()),
        ("format", pa.large_string()),
        ("raw", pa.large_binary()),
        ("fault", pa.int8()),
        ("why", pa.large_string()),
        ("number", pa.int32()),  # of a record whose id others have, too; 0: its id is its own
    ]
)


def raw_records(path: Path, passed: Passed | None = None) -> Iterator[dict[str, Any]]:
    """Yield every record of a file, folder or archive as a row of `RAW`, including broken ones.

    Args:
        path: the file, folder or archive.
        passed: as in `streams.members.members`.
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


def numbered(rows: Iterator[dict[str, Any]], repeated: frozenset[int]) -> Iterator[dict[str, Any]]:
    """Number the records of each repeated id, from 1; those that are equal byte by byte have the same number.

    Args:
        rows: rows of `RAW`, from the first of the source on.
        repeated: hashes of the repeated ids.
    """
    seen: dict[int, dict[bytes, int]] = {}
    for row in rows:
        own = own_id(row)
        if own is not None and (code := id_hash(own)) in repeated:
            numbers = seen.setdefault(code, {})
            content = hashlib.blake2b(row["raw"], digest_size=12).digest()
            row["number"] = numbers.setdefault(content, len(numbers) + 1)
        yield row


def id_hash(name: str) -> int:
    """Return the first eight bytes of a hash of an id."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def own_id(row: dict[str, Any]) -> str | None:
    """Return the id that a raw record gives itself."""
    if row["fault"]:
        return None
    kind = record_formats()[row["format"]]
    try:
        return kind.own_id(row["raw"], kind.columns(row["raw"]))
    except (BadRecord, *PARSE_ERRORS):
        return None


def _row(name: str, kind: str, record: bytes | BadRecord) -> dict[str, Any]:
    row = {"name": name, "format": kind, "raw": b"", "fault": 0, "why": None, "number": 0}
    if isinstance(record, BadRecord):
        return row | {"fault": REASONS.index(record.reason), "why": record.detail}
    return row | {"raw": record}
