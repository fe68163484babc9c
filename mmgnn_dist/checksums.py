"""Checksums of large files, computed once: a file that has not changed since is not read again.

A file is unchanged if its size, inode, mtime and ctime (in nanoseconds) are the same as when it was read. A
program cannot set the ctime, so a file whose content was replaced and whose mtime was restored is read again.
The device number is ignored: a network file system has a different one on each machine.

A run keeps its `VerifiedFiles` as `verified.json`. Its twins, its other ranks and later starts of the run
load this file. A file that is not listed or whose state differs is read again, and a damaged record is
ignored.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from mmgnn_dist.files import sha256, write_json


class FileState(BaseModel):
    """State of a file on disk.

    Attributes:
        size: in bytes.
        inode: inode number.
        mtime_ns: time of the last write to its content, ns since 1970.
        ctime_ns: time of the last change of content, name or permissions, ns since 1970.
    """

    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Read the state of a file."""
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
        state: state of the file when it was read.
        sha256: SHA-256 of its content.
    """

    state: FileState
    sha256: str


RECORD = TypeAdapter(dict[str, VerifiedFile])


class VerifiedFiles:
    """SHA-256 of files, computed once for each state of a file."""

    def __init__(self) -> None:
        self._files: dict[str, VerifiedFile] = {}
        self._saved: set[Path] = set()  # records that are up to date

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file's content; read the file only if its state is new.

        Args:
            path: path of the file.

        Raises:
            OSError: the file cannot be read.
        """
        path = Path(path).resolve()
        state, earlier = FileState.of(path), self._files.get(str(path))
        if earlier and earlier.state == state:
            return earlier.sha256
        digest = sha256(path)
        if (
            FileState.of(path) == state
        ):  # else it changed while it was read, and the digest may be of a mixture
            self._files[str(path)] = VerifiedFile(state=state, sha256=digest)
            self._saved.clear()
        return digest

    def load(self, record: Path) -> None:
        """Add the entries of a record; a missing or damaged record is ignored.

        Args:
            record: file written by `save`.
        """
        try:
            self._files |= RECORD.validate_json(record.read_bytes())
        except (OSError, ValidationError):
            return

    def save(self, record: Path) -> None:
        """Write the record if there are new entries.

        Args:
            record: file to write.

        Raises:
            OSError: the record cannot be written.
        """
        if record not in self._saved:
            write_json(record, RECORD.dump_python(self._files))
            self._saved.add(record)
