"""Cutting text streams into raw records, one molecule each, without understanding them.

A record that cannot be delimited ends where the next one plausibly begins, so that one bad record costs no
other. Every fault of the stream is one `BadRecord` at its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from mmgnn_dist.chem.checks import OVERSIZED, BadRecord

MAX_RECORD = 4 << 20  # bytes; some 50,000 atoms
MAX_LINE = 1 << 20
COUNT = re.compile(rb"\s*\d{1,9}\s*")
XYZ_SUFFIXES = (".xyz", ".extxyz")
SDF_SUFFIXES = (".sdf", ".sd", ".mol")


class _Block:
    """The lines of a record in the making."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.size = 0

    def add(self, line: bytes) -> None:
        self.size += len(line)
        if self.size <= MAX_RECORD:
            self.lines.append(line)

    def take(self) -> bytes | BadRecord:
        """The record; the block is empty after it."""
        lines, size = self.lines, self.size
        self.lines, self.size = [], 0
        if size > MAX_RECORD:
            return BadRecord(OVERSIZED, f"{size} bytes, more than {MAX_RECORD}")
        return b"".join(lines)


def xyz_frames(stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """Frames of an XYZ file: each begins with a line that is a whole number, its comment apart."""
    block = _Block()
    comment_next = False
    try:
        while line := stream.readline(MAX_LINE):
            is_count = not comment_next and COUNT.fullmatch(line) is not None
            if is_count and block.size:
                yield block.take()
            if not block.size and not line.strip():
                continue
            block.add(line)
            comment_next = is_count
    except BadRecord as error:
        yield error
        return
    if block.size:
        yield block.take()


def sdf_records(stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """Records of an SD file, up to their `$$$$`; the last may lack it."""
    block = _Block()
    blank = True
    try:
        while line := stream.readline(MAX_LINE):
            if line.startswith(b"$$$$"):
                yield block.take()
                blank = True
                continue
            blank = blank and not line.strip()
            block.add(line)
    except BadRecord as error:
        yield error
        return
    if not blank:
        yield block.take()


def frames(stream: IO[bytes], sdf: bool) -> Iterator[bytes | BadRecord]:
    """Raw records of a stream of either form."""
    return sdf_records(stream) if sdf else xyz_frames(stream)
