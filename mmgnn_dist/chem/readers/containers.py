"""The text files inside a file, archive or folder, as byte streams, without unpacking anything to disk.

tar (plain, gz, bz2), zip, single compressed files and folders are recognised by their content. A damaged
archive yields the content before the damage (in a plain tar, also that after it) and one `BadRecord` for
each damaged place. Names of members only serve as ids. Content that decompresses far beyond its compressed
size is cut off as an archive bomb.
"""

from __future__ import annotations

import bz2
import gzip
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mmgnn_dist.chem.checks import BOMB, DAMAGED, UNREADABLE, BadRecord
from mmgnn_dist.chem.readers.source import one_line, printable

RATIO = 200  # highest ratio of decompressed to compressed bytes; text of molecules reaches about 10
RATIO_FROM = 4 << 20  # decompressed bytes up to which any ratio is accepted
MOST = 1 << 40  # most bytes of one member
TAR_BLOCK = 512
BUFFER = 1 << 17
LONGEST_NAME = 1 << 16  # most bytes of an extended tar header

BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zlib.error,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Member:
    """One text file: a name fit for ids, its suffix, and its bytes or the reason why there are none."""

    name: str
    suffix: str
    content: IO[bytes] | BadRecord


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


class _Window(io.RawIOBase):
    """The next `size` bytes of a stream."""

    def __init__(self, outer: IO[bytes], size: int):
        super().__init__()
        self.outer, self.left = outer, size
        self.failed = False  # whether the window has raised a fault of the archive

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read on within the window."""
        try:
            part = self.outer.read(min(len(buffer), self.left))
            if not part and self.left:
                raise BadRecord(DAMAGED, f"the archive ends {self.left} bytes too early")
        except BadRecord:
            self.failed = True
            raise
        self.left -= len(part)
        buffer[: len(part)] = part
        return len(part)


def members(path: Path, wanted: tuple[str, ...], passed: list[str] | None = None) -> Iterator[Member]:
    """Yield the text files in `path`, in a fixed order.

    Args:
        path: file, archive or folder.
        wanted: suffixes of the files to read; other files are skipped.
        passed: list that receives the names of the skipped members of an archive, if given.
    """
    passed = [] if passed is None else passed
    if path.is_dir():
        for file in sorted(
            file for file in path.rglob("*") if file.is_file() and is_wanted(file.name, wanted)
        ):
            yield from _file(file, file.relative_to(path).as_posix(), wanted, passed, single=True)
    else:
        yield from _file(path, path.name, wanted, passed, single=False)


def is_wanted(name: str, wanted: tuple[str, ...]) -> bool:
    """Whether a file name ends in a wanted suffix, leaving out .gz and .bz2; never for a hidden file."""
    return not re.split(r"[/\\]", name)[-1].startswith(".") and strip_packing(name).lower().endswith(wanted)


def passed_over(name: str, files: list[str]) -> list[str]:
    """Return a line on files that were not read, or no line without such files; ignore hidden files."""
    shown = [file for file in (re.split(r"[/\\]", name)[-1] for name in files) if not file.startswith(".")]
    if not shown:
        return []
    kinds = sorted({printable(Path(file).suffix)[:10] or "no suffix" for file in shown})
    more = ", …" if len(kinds) > 5 else ""
    return [f"{name}: {len(shown)} of its files not read ({', '.join(kinds[:5])}{more})"]


def strip_packing(name: str) -> str:
    """Remove the suffix of a compressed file: `a.xyz.gz` becomes `a.xyz`."""
    return re.sub(r"\.(gz|bz2)$", "", name, flags=re.IGNORECASE)


def safe_name(name: str, wanted: tuple[str, ...]) -> str:
    """Make part of an id from a member's name: no `..`, root, control characters or wanted suffix."""
    text = name.encode("utf-8", "replace").decode("utf-8")
    parts = [re.sub(r"[\x00-\x1f\x7f]", "", part).strip() for part in re.split(r"[/\\]", text)]
    parts = [part for part in parts if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part)]
    unpacked = strip_packing("/".join(parts)) or "unnamed"
    suffix = "|".join(map(re.escape, wanted))
    return re.sub(f"({suffix})$", "", unpacked, flags=re.IGNORECASE)[:200] or "unnamed"


def _member(name: str, content: IO[bytes] | BadRecord, wanted: tuple[str, ...]) -> Member:
    return Member(safe_name(name, wanted), Path(strip_packing(name)).suffix.lower(), content)


def is_zip(head: bytes) -> bool:
    """Whether a file with these first bytes is a zip archive."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def _file(
    path: Path, name: str, wanted: tuple[str, ...], passed: list[str], single: bool
) -> Iterator[Member]:
    """Yield the members of one file on disk; with `single`, it is not opened as an archive."""
    try:
        with open(path, "rb") as raw:
            head = raw.read(8)
            raw.seek(0)
            if not single and is_zip(head):
                yield from _zip(raw, name, wanted, passed)
                return
            guard = _unpacked(raw, head)
            stream = io.BufferedReader(guard, BUFFER)
            if not single and _is_tar(name, stream):
                yield from _tar(stream, name, wanted, passed)
            else:
                yield _member(name, stream, wanted)
    except OSError as error:
        yield _member(name, BadRecord(DAMAGED, error.strerror or one_line(error)), wanted)


def _unpacked(raw: IO[bytes], head: bytes) -> Guard:
    """Return the decompressed content of a file that may be compressed."""
    if head[:2] == b"\x1f\x8b":
        return Guard(gzip.GzipFile(fileobj=raw), packed=raw)  # type: ignore[arg-type]
    if head[:3] == b"BZh":
        return Guard(bz2.BZ2File(raw), packed=raw)
    return Guard(raw)


def _is_tar(name: str, stream: io.BufferedReader[Any]) -> bool:
    lowered = strip_packing(name).lower()
    if lowered.endswith((".tar", ".tgz", ".tbz2", ".tbz")):
        return True
    try:
        return stream.peek(TAR_BLOCK)[257:262] == b"ustar"
    except BadRecord:  # reading the stream raises it again
        return False


def _zip(raw: IO[bytes], name: str, wanted: tuple[str, ...], passed: list[str]) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(raw)
    except BROKEN as error:
        yield _member(name, BadRecord(DAMAGED, one_line(error)), wanted)
        return
    with archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if not is_wanted(info.filename, wanted):
                passed.append(info.filename)
                continue
            try:
                content = archive.open(info)
            except BROKEN as error:
                yield _member(info.filename, BadRecord(DAMAGED, one_line(error)), wanted)
                continue
            with content:
                stream = io.BufferedReader(Guard(content, size=info.compress_size), BUFFER)
                yield _member(info.filename, _plain(stream, info.compress_size), wanted)


def _plain(stream: io.BufferedReader[Any], size: int) -> IO[bytes] | BadRecord:
    """Unpack a member if it is itself compressed, such as a.xyz.gz in a tar."""
    try:
        head = stream.peek(8)[:8]
    except BadRecord as error:
        return error
    packed = _unpacked(stream, head)
    if packed.inner is stream:
        return stream
    return io.BufferedReader(Guard(packed.inner, size=size), BUFFER)


def _tar(
    stream: io.BufferedReader[Any], name: str, wanted: tuple[str, ...], passed: list[str]
) -> Iterator[Member]:
    """Yield the members of a tar archive; after a broken header, skip to the next valid one."""
    long_name = ""
    lost = False
    while True:
        try:
            block = stream.read(TAR_BLOCK)
            if len(block) < TAR_BLOCK:
                raise BadRecord(DAMAGED, "the archive has no end")
            if not any(block):
                return
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except (tarfile.HeaderError, ValueError) as error:
                if not lost:
                    fault = BadRecord(DAMAGED, f"no valid header where one is expected ({one_line(error)})")
                    yield _member(name, fault, wanted)
                lost = True
                continue
            lost = False
            body = _Window(stream, header.size)
            if header.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME) and header.size <= LONGEST_NAME:
                long_name = _extended_name(io.BufferedReader(body).read(), header.type)
            elif header.type not in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
                title, long_name = long_name or header.name, ""
                if not is_wanted(title, wanted):
                    passed += [] if header.isdir() else [title]
                elif header.islnk() or header.issym():
                    yield _member(title, BadRecord(UNREADABLE, "a link, which is not followed"), wanted)
                elif header.isreg():
                    yield _member(title, _plain(io.BufferedReader(body, BUFFER), header.size), wanted)
                    if body.failed:
                        return
            _skip(body)
            _skip(_Window(stream, -header.size % TAR_BLOCK))
        except BadRecord as error:
            yield _member(name, error, wanted)
            return


def _skip(window: _Window) -> None:
    while window.left:
        window.read(BUFFER)


def _extended_name(content: bytes, kind: bytes) -> str:
    """Return the name in a GNU or PAX header, or "" if it has none."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return content.rstrip(b"\0").decode("utf-8", "replace")
    match = re.search(rb"(?:^|\n)\d+ path=([^\n]*)\n", content)
    return match[1].decode("utf-8", "replace") if match else ""
