"""The text files inside a file, archive or folder, as streams, without unpacking anything to disk.

tar (plain, gz, bz2, xz), zip, single compressed files and folders are recognised by their content. A damaged
archive yields the content before the damage (in a plain tar, also that after it) and one `BadRecord` for
each damaged place. Names of members only serve as ids.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mmgnn_dist.chem.checks import DAMAGED, UNREADABLE, BadRecord
from mmgnn_dist.chem.readers.source import one_line, printable
from mmgnn_dist.chem.streams.encoding import plain_text
from mmgnn_dist.chem.streams.unpack import BROKEN, BUFFER, Guard, open_zipped, unpacked

MOST_KINDS, SHOWN_KINDS = 50, 5  # suffixes of files that are not read
TAR_BLOCK = 512
LONGEST_NAME = 1 << 16  # most bytes of an extended tar header
PACKED = r"\.(gz|bz2|xz)$"
TARS = (".tar", ".tgz", ".tbz2", ".tbz", ".txz")


@dataclass(frozen=True)
class Member:
    """One text file: a name fit for ids, its suffix, and its bytes or the reason why there are none."""

    name: str
    suffix: str
    content: IO[bytes] | BadRecord


@dataclass
class Passed:
    """Files that no reader reads.

    Attributes:
        count: how many, hidden ones left out.
        kinds: their suffixes; of very many only the first.
    """

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, name: str) -> None:
        """Count a file; ignore a hidden one."""
        file = re.split(r"[/\\]", name)[-1]
        if file.startswith("."):
            return
        self.count += 1
        kind = printable(Path(file).suffix)[:10] or "no suffix"
        if len(self.kinds) < MOST_KINDS:
            self.kinds[kind] += 1

    def note(self, name: str) -> list[str]:
        """Return a line on these files, or no line without such files.

        Args:
            name: what holds them.
        """
        if not self.count:
            return []
        more = ", …" if len(self.kinds) > SHOWN_KINDS else ""
        kinds = ", ".join(sorted(self.kinds)[:SHOWN_KINDS])
        return [f"{name}: {self.count} of its files not read ({kinds}{more})"]


class _Window(io.RawIOBase):
    """The next `size` bytes of a stream, which are not fewer than none."""

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


def members(path: Path, wanted: tuple[str, ...], passed: Passed | None = None) -> Iterator[Member]:
    """Yield the text files in `path`, in a fixed order.

    Args:
        path: file, archive or folder.
        wanted: suffixes of the files to read; other files are skipped.
        passed: counts the skipped members of an archive, if given.
    """
    passed = Passed() if passed is None else passed
    if path.is_dir():
        for file in sorted(
            file for file in path.rglob("*") if file.is_file() and is_wanted(file.name, wanted)
        ):
            yield from _file(file, file.relative_to(path).as_posix(), wanted, passed, single=True)
    else:
        yield from _file(path, path.name, wanted, passed, single=False)


def is_wanted(name: str, wanted: tuple[str, ...]) -> bool:
    """Whether a file name ends in a wanted suffix, leaving out .gz, .bz2 and .xz; never for a hidden file."""
    return not re.split(r"[/\\]", name)[-1].startswith(".") and strip_packing(name).lower().endswith(wanted)


def strip_packing(name: str) -> str:
    """Remove the suffix of a compressed file: `a.xyz.gz` becomes `a.xyz`."""
    return re.sub(PACKED, "", name, flags=re.IGNORECASE)


def safe_name(name: str, wanted: tuple[str, ...]) -> str:
    """Make part of an id from a member's name: no `..`, root, control characters or wanted suffix."""
    text = name.encode("utf-8", "replace").decode("utf-8")
    parts = [re.sub(r"[\x00-\x1f\x7f]", "", part).strip() for part in re.split(r"[/\\]", text)]
    parts = [part for part in parts if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part)]
    unpacked = strip_packing("/".join(parts)) or "unnamed"
    suffix = "|".join(map(re.escape, wanted))
    return re.sub(f"({suffix})$", "", unpacked, flags=re.IGNORECASE)[:200] or "unnamed"


def _member(name: str, content: io.BufferedReader[Any] | BadRecord, wanted: tuple[str, ...]) -> Member:
    text = content if isinstance(content, BadRecord) else plain_text(content)
    return Member(safe_name(name, wanted), Path(strip_packing(name)).suffix.lower(), text)


def is_zip(head: bytes) -> bool:
    """Whether a file with these first bytes is a zip archive."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def _file(path: Path, name: str, wanted: tuple[str, ...], passed: Passed, single: bool) -> Iterator[Member]:
    """Yield the members of one file on disk; with `single`, it is not opened as an archive."""
    try:
        with open(path, "rb") as raw:
            head = raw.read(8)
            raw.seek(0)
            if not single and is_zip(head):
                yield from _zip(raw, name, wanted, passed)
                return
            stream = io.BufferedReader(unpacked(raw, head) or Guard(raw), BUFFER)
            if not single and _is_tar(name, stream):
                yield from _tar(stream, name, wanted, passed)
            else:
                yield _member(name, stream, wanted)
    except OSError as error:
        yield _member(name, BadRecord(DAMAGED, error.strerror or one_line(error)), wanted)


def _is_tar(name: str, stream: io.BufferedReader[Any]) -> bool:
    lowered = strip_packing(name).lower()
    if lowered.endswith(TARS):
        return True
    try:
        return stream.peek(TAR_BLOCK)[257:262] == b"ustar"
    except BadRecord:  # reading the stream raises it again
        return False


def _zip(raw: IO[bytes], name: str, wanted: tuple[str, ...], passed: Passed) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(raw)
    except BROKEN as error:
        yield _member(name, BadRecord(DAMAGED, one_line(error)), wanted)
        return
    with archive:
        for info in archive.infolist():
            if info.filename.endswith("/"):
                continue
            if not is_wanted(info.filename, wanted):
                passed.add(info.filename)
                continue
            try:
                guard = open_zipped(archive, info)
            except BROKEN as error:
                yield _member(info.filename, BadRecord(DAMAGED, one_line(error)), wanted)
                continue
            with guard.inner:
                stream = io.BufferedReader(guard, BUFFER)
                yield _member(info.filename, _plain(stream, info.compress_size), wanted)


def _plain(stream: io.BufferedReader[Any], size: int) -> io.BufferedReader[Any] | BadRecord:
    """Unpack a member if it is itself compressed, such as a.xyz.gz in a tar."""
    try:
        head = stream.peek(8)[:8]
    except BadRecord as error:
        return error
    guard = unpacked(stream, head, size)
    return stream if guard is None else io.BufferedReader(guard, BUFFER)


def _tar(
    stream: io.BufferedReader[Any], name: str, wanted: tuple[str, ...], passed: Passed
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
                if header.size < 0:
                    raise ValueError(f"a size of {header.size} bytes")
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
                    if not header.isdir():
                        passed.add(title)
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
