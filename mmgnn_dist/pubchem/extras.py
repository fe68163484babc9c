"""PubChem's bulk files `Compound/Extras/CID-*.gz`: lines of CID, tab, text, ascending by CID.

A file is read once, front to back, in pieces of a few megabytes: decompressed, hashed (SHA-256) and split
into lines by numpy, without a Python object per line. The text of a line becomes a string only if wanted.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa

from mmgnn_dist.errors import UserError

KEY_FILE = "CID-InChI-Key"  # CID, InChI, InChIKey
FIELD_FILES = {
    "iupac_name": "CID-IUPAC",
    "title": "CID-Title",
    "molecular_formula": "CID-Mass",  # CID, formula, monoisotopic and exact mass; no average weight
    "synonyms": "CID-Synonym-filtered",  # a line for each synonym, the best first
    "smiles": "CID-SMILES",
}
KEY_LETTERS = 27
PIECE = 4 << 20  # bytes decompressed at a time
DIGITS = 12  # most digits of a CID
ODD_LINES, ODD_SHARE = 10, 1e-4  # lines of another form are skipped and counted; more than this mean damage
TAB, NEWLINE, RETURN, ZERO = 9, 10, 13, 48


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a file.

    Attributes:
        data: bytes of the lines, uint8.
        cid: int64 [L], ascending.
        start, end: begin and end of the text of each line in `data`, int64 [L].
    """

    data: np.ndarray
    cid: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def texts(self, rows: np.ndarray) -> pa.Array:
        """Return the text of the given lines as large_string; bytes that are not UTF-8 are replaced."""
        start, size = self.start[rows], (self.end - self.start)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
        indices = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], size)
        return _strings(offsets, self.data[indices])

    def keys(self) -> tuple[np.ndarray, pa.Array]:
        """Return (rows [K], InChIKeys [K]) of the lines that end in a tab and 27 letters."""
        rows = np.flatnonzero(self.end - self.start > KEY_LETTERS)
        rows = rows[self.data[self.end[rows] - KEY_LETTERS - 1] == TAB]
        letters = self.data[(self.end[rows] - KEY_LETTERS)[:, None] + np.arange(KEY_LETTERS)]
        return rows, _strings(KEY_LETTERS * np.arange(len(rows) + 1, dtype=np.int64), letters.ravel())


class ExtrasAbout(TypedDict):
    """A bulk file that was read: compressed bytes, date, SHA-256, lines, and lines that were skipped."""

    bytes: int
    date: str
    sha256: str
    rows: int
    odd_lines: int


class ScanRecord(ExtrasAbout):
    """A bulk file, and the stamp of the keys and files for which it was read."""

    stamp: str


class ExtrasFile:
    """One bulk file, read once.

    Attributes:
        path: the file.
        size: compressed size in bytes.
        read: compressed bytes read so far.
        rows: number of lines yielded so far.
        odd: number of lines skipped so far, because they are not CID, tab, text.
    """

    def __init__(self, path: Path):
        self.path, self.size = path, path.stat().st_size
        self.read = self.rows = self.odd = 0
        self._digest = hashlib.sha256()
        self._last = 0

    def about(self) -> ExtrasAbout:
        """Return bytes, date, SHA-256, lines and skipped lines; call it after all lines have been read.

        The date is the file's modification time; `wget` and `rsync` copy it from PubChem's server.
        """
        date = time.strftime("%Y-%m-%d", time.gmtime(self.path.stat().st_mtime))
        digest = self._digest.hexdigest()
        return {"bytes": self.size, "date": date, "sha256": digest, "rows": self.rows, "odd_lines": self.odd}

    def lines(self) -> Iterator[Lines]:
        """Yield all lines, a few megabytes at a time.

        Raises:
            UserError: not gzip, truncated, too many lines of another form, or not sorted by CID.
        """
        rest = b""
        for piece in self._decompressed():
            text = rest + piece
            cut = text.rfind(b"\n") + 1
            rest = text[cut:]
            if cut:
                yield from self._split(text[:cut])
        if rest:
            yield from self._split(rest + b"\n")

    def _decompressed(self) -> Iterator[bytes]:
        """Yield the decompressed content; a file may hold several gzip members in a row."""
        inflate = zlib.decompressobj(wbits=31)
        with open(self.path, "rb") as content:
            while block := content.read(1 << 20):
                self._digest.update(block)
                self.read += len(block)
                while block:
                    if inflate.eof:
                        inflate = zlib.decompressobj(wbits=31)
                    try:
                        piece = inflate.decompress(block, PIECE)
                    except zlib.error as error:
                        raise self._wrong(f"is no sound gzip file ({error})") from None
                    block = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
                    if piece:
                        yield piece
        if not inflate.eof:
            yield inflate.flush()
        if not inflate.eof:
            raise self._wrong("is truncated")

    def _split(self, text: bytes) -> Iterator[Lines]:
        """Yield the lines of a text that have the right form, if there are any."""
        data = np.frombuffer(text, np.uint8)
        end = np.flatnonzero(data == NEWLINE)
        begin = np.concatenate([np.zeros(1, np.int64), end[:-1] + 1])
        tabs = np.append(np.flatnonzero(data == TAB), len(data))
        tab = tabs[np.searchsorted(tabs, begin)]
        width = tab - begin
        bad = (tab >= end) | (width < 1) | (width > DIGITS)
        cid = np.zeros(len(end), np.int64)
        for position in range(int(width.max(where=~bad, initial=0))):
            digit = data[np.minimum(begin + position, len(data) - 1)].astype(np.int64) - ZERO
            in_number = position < width
            bad |= in_number & ((digit < 0) | (digit > 9))
            cid = np.where(in_number, cid * 10 + digit, cid)
        if bad.any():
            self.odd += int(bad.sum())
            if self.odd > ODD_LINES + ODD_SHARE * (self.rows + len(end)):
                raise self._wrong(f"has {self.odd:,} lines that are not CID, tab, text")
            cid, tab, end = cid[~bad], tab[~bad], end[~bad]
            if not len(cid):
                return
        if cid[0] < self._last or np.any(cid[1:] < cid[:-1]):
            raise self._wrong("is not sorted by CID")
        self._last = int(cid[-1])
        self.rows += len(end)
        yield Lines(data, cid, tab + 1, end - (data[end - 1] == RETURN))

    def _wrong(self, fault: str) -> UserError:
        return UserError(f"{self.path} {fault}: get it anew from PubChem's Compound/Extras")


def find_extras(folder: Path) -> dict[str, Path]:
    """Return the bulk files in a folder, by name.

    Raises:
        UserError: no such folder, no CID-InChI-Key, or no other bulk file in it.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: --bulk takes the folder that holds PubChem's CID-*.gz")
    names = (KEY_FILE, *FIELD_FILES.values())
    files = {name: folder / f"{name}.gz" for name in names if (folder / f"{name}.gz").is_file()}
    if KEY_FILE not in files:
        raise UserError(f"{folder} has no {KEY_FILE}.gz: only this file maps InChIKeys to CIDs")
    if len(files) == 1:
        raise UserError(f"{folder} has no text: put at least one of {', '.join(names[1:])} (.gz) there")
    return files


def _strings(offsets: np.ndarray, data: np.ndarray) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    raw = pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
    try:
        return raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        return pa.array([value.decode("utf-8", "replace") for value in raw.to_pylist()], pa.large_string())
