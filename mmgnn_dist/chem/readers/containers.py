"""The text files inside a file, archive or folder, as byte streams, without unpacking anything to disk.

tar (plain, gz, bz2), zip, single compressed files and folders are told by their content. A damaged
archive gives what stands before (and, in a plain tar, behind) the damage and one `BadRecord` for each
place where it is broken. Names of members only serve as ids. What decompresses far beyond its size is cut
off as an archive bomb.
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

RATIO = 200  # decompressed by compressed bytes; text of molecules reaches about 10
RATIO_FROM = 4 << 20  # bytes up to which no ratio is suspicious
MOST = 1 << 40  # bytes of one member
TAR_BLOCK = 512
BUFFER = 1 << 17
LONGEST_NAME = 1 << 16  # bytes of an extended tar header

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
    """One text file: a name fit for ids, its suffix, and its bytes or why there are none."""

    name: str
    suffix: str
    content: IO[bytes] | BadRecord


class Guard(io.RawIOBase):
    """A stream whose every fault is a `BadRecord`, and which ends where it would be a bomb."""

    def __init__(self, inner: IO[bytes], size: int | None = None, packed: IO[bytes] | None = None):
        super().__init__()
        self.inner, self.size, self.packed = inner, size, packed
        self.count = 0
        self.failure: BadRecord | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read on, or raise what went wrong, again and again."""
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
        self.failed = False  # whether the reader was told of a fault of the archive

    def readable(self) -> bool:
        """It is."""
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
    """The text files that `path` holds, in a fixed order.

    Args:
        path: file, archive or folder.
        wanted: suffixes of the files to read; others are passed over.
        passed: takes the names of the members of an archive that are passed over, if it is given.
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
    """Whether a file's name has one of the suffixes, that of a compressed file apart; hidden ones never."""
    return not re.split(r"[/\\]", name)[-1].startswith(".") and strip_packing(name).lower().endswith(wanted)


def passed_over(name: str, files: list[str]) -> list[str]:
    """A line on files that were not read, none where there are none; hidden ones are not meant."""
    shown = [file for file in (re.split(r"[/\\]", name)[-1] for name in files) if not file.startswith(".")]
    if not shown:
        return []
    kinds = sorted({printable(Path(file).suffix)[:10] or "no suffix" for file in shown})
    more = ", …" if len(kinds) > 5 else ""
    return [f"{name}: {len(shown)} of its files not read ({', '.join(kinds[:5])}{more})"]


def strip_packing(name: str) -> str:
    """`a.xyz` of `a.xyz.gz`."""
    return re.sub(r"\.(gz|bz2)$", "", name, flags=re.IGNORECASE)


def safe_name(name: str, wanted: tuple[str, ...]) -> str:
    """A member's name as part of an id: no way up, no root, no control characters, no suffix of `wanted`."""
    text = name.encode("utf-8", "replace").decode("utf-8")
    parts = [re.sub(r"[\x00-\x1f\x7f]", "", part).strip() for part in re.split(r"[/\\]", text)]
    parts = [part for part in parts if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part)]
    kept = strip_packing("/".join(parts)) or "unnamed"
    suffix = "|".join(map(re.escape, wanted))
    return re.sub(f"({suffix})$", "", kept, flags=re.IGNORECASE)[:200] or "unnamed"


def _member(name: str, content: IO[bytes] | BadRecord, wanted: tuple[str, ...]) -> Member:
    return Member(safe_name(name, wanted), Path(strip_packing(name)).suffix.lower(), content)


def is_zip(head: bytes) -> bool:
    """Whether a file that starts so is a zip archive."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def _file(
    path: Path, name: str, wanted: tuple[str, ...], passed: list[str], single: bool
) -> Iterator[Member]:
    """What one file on disk holds; `single`: it is no archive."""
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
    """The content of a perhaps compressed file."""
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
    except BadRecord:  # the stream says so again when it is read
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
    """A member that is compressed once more, such as a.xyz.gz in a tar, unpacked."""
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
    """Members of a tar archive. A header that is none is passed over up to the next one that is sound."""
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
                    fault = BadRecord(DAMAGED, f"no header where one must be ({one_line(error)})")
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
    """The name in a GNU or PAX header, "" where it has none."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return content.rstrip(b"\0").decode("utf-8", "replace")
    found = re.search(rb"(?:^|\n)\d+ path=([^\n]*)\n", content)
    return found[1].decode("utf-8", "replace") if found else ""
