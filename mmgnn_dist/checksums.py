"""Checksums of large files that are computed once: a file that has not changed since is not read again.

Unchanged means the same size, inode, and times of modification and of change (in nanoseconds) as when it was
read. The time of change cannot be set by a program, so a file whose content was replaced and whose time of
modification was put back is read again. The number of the device does not count: a network file system has
another one on each machine.

A run keeps its `VerifiedFiles` as `verified.json`: its twins, its other ranks and whoever continues it start
from there. What is not listed, or damaged, or of another state, is read; nothing is believed without a match.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from mmgnn_dist.files import sha256, write_json


class FileState(BaseModel):
    """A file as it is on disk.

    Attributes:
        size: in bytes.
        inode: number of the file in its file system.
        mtime_ns: when its content was last written.
        ctime_ns: when content, name or rights were last changed.
    """

    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state of a file now."""
        status = path.stat()
        return cls(
            size=status.st_size,
            inode=status.st_ino,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
        )


class VerifiedFile(BaseModel):
    """A file that was read.

    Attributes:
        state: that it was in.
        sha256: of its content then.
    """

    state: FileState
    sha256: str


RECORD = TypeAdapter(dict[str, VerifiedFile])


class VerifiedFiles:
    """SHA-256 of files, computed once for each state of a file."""

    def __init__(self) -> None:
        self._files: dict[str, VerifiedFile] = {}
        self._saved: set[Path] = set()  # records that hold all that is known

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file's content; it is read only if its state is a new one.

        Args:
            path: of the file.

        Raises:
            OSError: if it cannot be read.
        """
        path = Path(path).resolve()
        state, earlier = FileState.of(path), self._files.get(str(path))
        if earlier and earlier.state == state:
            return earlier.sha256
        digest = sha256(path)
        if FileState.of(path) == state:  # else somebody writes it: what was read may be a mixture
            self._files[str(path)] = VerifiedFile(state=state, sha256=digest)
            self._saved.clear()
        return digest

    def load(self, record: Path) -> None:
        """Add what a record knows; one that is missing or damaged knows nothing.

        Args:
            record: as `save` writes it.
        """
        try:
            self._files |= RECORD.validate_json(record.read_bytes())
        except (OSError, ValidationError):
            return

    def save(self, record: Path) -> None:
        """Write the record, if there is anything new.

        Args:
            record: file to write.

        Raises:
            OSError: if it cannot be written.
        """
        if record not in self._saved:
            write_json(record, RECORD.dump_python(self._files))
            self._saved.add(record)
