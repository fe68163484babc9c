"""Cutting of text streams into raw records, one molecule each, without parsing them.

A record without a clear end stops where the next one plausibly begins, so that one bad record does not cost
another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from mmgnn_dist.chem.checks import OVERSIZED, BadRecord

MAX_RECORD = 4 << 20  # bytes; some 50,000 atoms
MAX_LINE = 1 << 20
COUNT = re.compile(rb"\s*\d{1,9}\s*")
ATOM = re.compile(rb"\s*[A-Za-z\d]{1,4}(\s+[-+.\d]\S*){3}")
QM9_SECOND_LINE = re.compile(rb"\s*gdb\s+\d+\s")
QM9_TAIL = 3  # lines after the atoms in a QM9 file: frequencies, SMILES, InChI


class _Block:
    """The lines of the current record."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.size = 0

    def add(self, line: bytes) -> None:
        self.size += len(line)
        if self.size <= MAX_RECORD:
            self.lines.append(line)

    def take(self) -> bytes | BadRecord:
        """Return the record and empty the block."""
        lines, size = self.lines, self.size
        self.lines, self.size = [], 0
        if size > MAX_RECORD:
            return BadRecord(OVERSIZED, f"{size} bytes, more than {MAX_RECORD}")
        return b"".join(lines)


def xyz_frames(stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """Yield the frames of an XYZ file; each begins with a line, not its comment, that is a whole number.

    Lines after the last atom belong to the frame if they look like atoms (its number of atoms is then wrong);
    otherwise they are a bad record of their own.
    """
    block = _Block()
    lines = expected = 0
    while line := stream.readline(MAX_LINE):
        is_comment = lines == 1 and expected > 0
        is_count = not is_comment and COUNT.fullmatch(line) is not None
        surplus = lines == expected > 0 and line.strip() and not ATOM.match(line)
        if block.size and (is_count or surplus):
            yield block.take()
            lines = expected = 0
        if not block.size and not line.strip():
            continue
        if is_count:
            expected = int(line) + 2
        elif is_comment and QM9_SECOND_LINE.match(line):
            expected += QM9_TAIL
        block.add(line)
        lines += 1
    if block.size:
        yield block.take()


def sdf_records(stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """Yield the records of an SD file, each up to its `$$$$`; the last one may lack it."""
    block = _Block()
    blank = True
    while line := stream.readline(MAX_LINE):
        if line.startswith(b"$$$$"):
            yield block.take()
            blank = True
            continue
        blank = blank and not line.strip()
        block.add(line)
    if not blank:
        yield block.take()
