"""Decompression with bounded memory, whatever the packed bytes say they hold.

Content that grows far beyond its packed size is cut off as an archive bomb; a dictionary that needs much
memory is refused before it is allocated.
"""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import IO, Any

from mmgnn_dist.chem.checks import BOMB, DAMAGED, BadRecord
from mmgnn_dist.chem.readers.source import one_line

RATIO = 200  # highest ratio of decompressed to packed bytes; text of molecules reaches about 10
RATIO_FROM = 4 << 20  # decompressed bytes up to which any ratio is accepted
MOST = 1 << 40  # most bytes of one member
BUFFER = 1 << 17
DICTIONARY = 128 << 20  # most bytes that a decoder of xz may take; its largest preset takes 65 MiB
XZ_SIGN = b"\xfd7zXZ\0"
LZMA_PROPERTIES = 5  # bytes of LZMA's settings in a zip, after four bytes of version and length

BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


class Guard(io.RawIOBase):
    """A stream that raises every fault as a `BadRecord` and stops at an archive bomb."""

    def __init__(self, inner: IO[bytes], size: int | None = None, packed: IO[bytes] | None = None):
        super().__init__()
        self.inner, self.size, self.packed = inner, size, packed
        self.count = 0
        self.failure: BadRecord | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read on; after a fault, every call raises it again."""
        if self.failure is None:
            try:
                part = self.inner.read(len(buffer))
            except BROKEN as error:
                self.failure = BadRecord(DAMAGED, one_line(error))
            else:
                self.count += len(part)
                self._judge()
        if self.failure is not None:
            raise self.failure
        buffer[: len(part)] = part
        return len(part)

    def _judge(self) -> None:
        size = self.packed.tell() if self.packed is not None else self.size
        if self.count > MOST or (size is not None and self.count > max(RATIO_FROM, RATIO * size)):
            self.failure = BadRecord(BOMB, f"more than {self.count >> 20} MiB out of {size} bytes")


class _Lzma(io.RawIOBase):
    """LZMA content, one stream after another, by a decoder of limited memory (that of LZMAFile is not)."""

    def __init__(self, packed: IO[bytes], form: int = lzma.FORMAT_XZ, head: bytes = b""):
        super().__init__()
        self._packed, self._form, self._input = packed, form, head
        self._decoder = self._new()

    def _new(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(self._form, memlimit=DICTIONARY)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read on."""
        while True:
            if self._decoder.eof:
                if self._form == lzma.FORMAT_ALONE:
                    return 0
                rest = self._decoder.unused_data.lstrip(b"\0") or self._packed.read(BUFFER).lstrip(b"\0")
                if not rest:
                    return 0
                self._decoder, self._input = self._new(), rest
            if self._decoder.needs_input and not self._input:
                self._input = self._packed.read(BUFFER)
                if not self._input:
                    raise EOFError("the compressed data ends too early")
            part = self._decoder.decompress(self._input, len(buffer))
            self._input = b""
            if part:
                buffer[: len(part)] = part
                return len(part)


def unpacked(raw: IO[bytes], head: bytes, size: int | None = None) -> Guard | None:
    """Return the decompressed content of a stream, or None if its first bytes are those of no packed file.

    Args:
        raw: the stream, at its begin.
        head: its first bytes.
        size: its packed size, to judge bombs by; None: the position in `raw` tells.
    """
    inner: Any
    if head[:2] == b"\x1f\x8b":
        inner = gzip.GzipFile(fileobj=raw)
    elif head[:3] == b"BZh":
        inner = bz2.BZ2File(raw)
    elif head[:6] == XZ_SIGN:
        inner = _Lzma(raw)
    else:
        return None
    return Guard(inner, size=size, packed=raw if size is None else None)


def open_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Guard:
    """Return the content of a member of a zip.

    `zipfile` bounds what it decompresses in one step for deflate alone; what is packed in another way is
    taken from it as stored bytes and decompressed here.
    """
    if info.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stored = copy.copy(info)
        stored.compress_type, stored.file_size = zipfile.ZIP_STORED, info.compress_size
        del stored.CRC  # it is that of the content
        packed = archive.open(stored)
        if info.compress_type == zipfile.ZIP_BZIP2:
            return Guard(bz2.BZ2File(packed), size=info.compress_size)
        head = packed.read(4 + LZMA_PROPERTIES)[4:] + struct.pack("<Q", info.file_size)
        return Guard(_Lzma(packed, lzma.FORMAT_ALONE, head), size=info.compress_size)  # type: ignore[arg-type]
    return Guard(archive.open(info), size=info.compress_size)
