"""Cutting of text streams into raw records, one molecule each, without parsing them.

A record without a clear end stops where the next one plausibly begins, so that one bad record does not cost
another.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import IO

from mmgnn_dist.chem.checks import OVERSIZED, BadRecord

MAX_RECORD = 4 << 20  # bytes; some 50,000 atoms
MAX_LINE = 1 << 20
COUNT = re.compile(rb"\s*\d{1,9}\s*")
COUNT_WORDS = re.compile(
    rb"\s*\d{1,9}\s+\S"
)  # a count with words behind it, if it is not the line of an atom
WORDS = re.compile(rb"\s*\d{1,9}\s+[^\s\d.+-]")
ATOM = re.compile(rb"\s*[A-Za-z\d]{1,4}(\s+[-+.\d]\S*){3}")
QM9_SECOND_LINE = re.compile(rb"\s*gdb\s+\d+\s")
COUNTS_LINE = re.compile(rb"\s*\d[\s\d]*V[23]000\s*$")  # fourth line of a mol block
HEADER = 3  # lines of a mol block before it
QM9_TAIL = 3  # lines after the atoms in a QM9 file: frequencies, SMILES, InChI


class _Block:
    """The lines of the current record."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.size = 0
        self.last: deque[bytes] = deque(maxlen=HEADER)

    def add(self, line: bytes) -> None:
        self.size += len(line)
        self.last.append(line)
        if self.size <= MAX_RECORD:
            self.lines.append(line)

    def cut(self, last: int) -> bytes | BadRecord:
        """Return the record without its last lines, with which the next one begins."""
        begun = list(self.last)[-last:]
        size = self.size - sum(map(len, begun))
        if self.size <= MAX_RECORD:
            del self.lines[len(self.lines) - len(begun) :]
        self.size = size
        record = self.take()
        for line in begun:
            self.add(line)
        return record

    def take(self) -> bytes | BadRecord:
        """Return the record and empty the block."""
        lines, size = self.lines, self.size
        self.lines, self.size = [], 0
        self.last.clear()
        if size > MAX_RECORD:
            return BadRecord(OVERSIZED, f"{size} bytes, more than {MAX_RECORD}")
        return b"".join(lines)


def xyz_frames(stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """Yield the frames of an XYZ file; each begins with a line, not its comment, that is a whole number.

    Words may follow the number where a frame is due, and elsewhere if the present frame has such words. Lines
    after the last atom belong to the frame if they look like atoms (its number of atoms is then wrong);
    otherwise they are a bad record of their own.
    """
    block = _Block()
    lines = expected = 0
    has_words = False
    while line := stream.readline(MAX_LINE):
        is_comment = lines == 1 and expected > 0
        is_count = not is_comment and COUNT.fullmatch(line) is not None
        due = not block.size or lines == expected > 0
        if not is_count and not is_comment and COUNT_WORDS.match(line) and not ATOM.match(line):
            is_count = due or (has_words and WORDS.match(line) is not None)
        surplus = lines == expected > 0 and line.strip() and not ATOM.match(line)
        if block.size and (is_count or surplus):
            yield block.take()
            lines = expected = 0
        if not block.size and not line.strip():
            continue
        if is_count:
            expected = int(line.split(None, 1)[0]) + 2
            has_words = COUNT.fullmatch(line) is None
        elif is_comment and QM9_SECOND_LINE.match(line):
            expected += QM9_TAIL
        block.add(line)
        lines += 1
    if block.size:
        yield block.take()


def sdf_records(stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """Yield the records of an SD file, each up to its `$$$$`; the last one may lack it.

    A second counts line in a record, outside of its data fields, begins another record three lines before it:
    people join the files of molecules, and these have no `$$$$`.
    """
    block = _Block()
    blank, has_counts, in_field = True, False, False
    while line := stream.readline(MAX_LINE):
        if line.startswith(b"$$$$") and not line[4:].strip():
            yield block.take()
            blank, has_counts, in_field = True, False, False
            continue
        in_field = line.startswith(b">") or (in_field and bool(line.strip()))
        if not in_field and COUNTS_LINE.match(line):
            if has_counts:
                header = block.cut(HEADER)
                if (isinstance(header, bytes) and header.strip()) or isinstance(header, BadRecord):
                    yield header
            has_counts = True
        blank = blank and not line.strip()
        block.add(line)
    if not blank:
        yield block.take()
