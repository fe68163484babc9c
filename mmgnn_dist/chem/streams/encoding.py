"""One form for the bytes of every text file: UTF-8 without byte order mark, lines that end in a line feed.

UTF-16 and UTF-32 are known by their byte order mark, UTF-16 also by its zero bytes. A carriage return alone
ends a line; before a line feed it stays, because every reader takes it for a blank.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import Any

from mmgnn_dist.chem.checks import BadRecord

CHUNK = 1 << 16
MARKS = (  # the longer marks first, since one begins with the other
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
HEAD = 64  # bytes in which to look for the encoding
LEAST = 4  # bytes that tell UTF-16 without a mark
RETURNS = re.compile(rb"\r+(\n?)")


class PlainText(io.RawIOBase):
    """The bytes of a stream in the common form; a fault of the stream comes after what came before it.

    Args:
        inner: the stream, buffered; it may raise `BadRecord`.
    """

    def __init__(self, inner: io.BufferedReader[Any]):
        super().__init__()
        self.inner = inner
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begun = False
        self._pushed = b""  # what was read to find the encoding
        self._held = b""  # carriage returns at the end of the last chunk
        self._ready = memoryview(b"")
        self._failure: BadRecord | None = None
        self._ended = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read on."""
        while not self._ready and not self._ended:
            self._fill()
        if not self._ready and self._failure is not None:
            raise self._failure
        part = self._ready[: len(buffer)]
        self._ready = self._ready[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def _fill(self) -> None:
        """Convert the next chunk."""
        try:
            if not self._begun:
                self._begin()
            chunk, self._pushed = self._pushed or self.inner.read1(CHUNK), b""
        except BadRecord as error:
            chunk, self._failure = b"", error
        self._ended = not chunk
        if self._decoder is not None:
            chunk = self._decoder.decode(chunk, final=self._ended).encode("utf-8", "replace")
        if self._held or b"\r" in chunk:
            chunk = self._held + chunk
            kept = len(chunk.rstrip(b"\r")) if not self._ended else len(chunk)
            self._held = chunk[kept:]
            chunk = RETURNS.sub(_line_ends, chunk[:kept])
        self._ready = memoryview(chunk)

    def _begin(self) -> None:
        """Find the encoding, and pass over the byte order mark."""
        self._begun = True
        head = self.inner.read(HEAD)
        mark, name = next(((mark, name) for mark, name in MARKS if head.startswith(mark)), (b"", ""))
        self._pushed = head[len(mark) :]
        name = name or _by_zeros(head)
        if name != "utf-8":
            self._decoder = codecs.getincrementaldecoder(name)("replace")


def plain_text(stream: io.BufferedReader[Any]) -> io.BufferedReader[Any]:
    """Return a stream in the common form."""
    return io.BufferedReader(PlainText(stream), CHUNK)


def _by_zeros(head: bytes) -> str:
    """Return the encoding of text without a mark: in UTF-16, every second byte of ASCII letters is zero."""
    part = head[: len(head) // 2 * 2]
    if len(part) >= LEAST:
        low, high = part[::2], part[1::2]
        if not any(high) and all(low):
            return "utf-16-le"
        if not any(low) and all(high):
            return "utf-16-be"
    return "utf-8"


def _line_ends(match: re.Match[bytes]) -> bytes:
    run = match[0]
    return run if match[1] else b"\n" * len(run)
