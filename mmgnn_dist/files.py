"""Atomic writes, file locks and checksums.

A file that others may read is first written under a temporary name in the same folder, then synced and
renamed: a crash leaves the old content or none, never half of it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from mmgnn_dist.errors import DamagedFile, UserError

CHUNK = 1 << 22
# the disk is full or fails, a quota or limit is reached, reading or writing is not allowed, or a path is none
# of a file: not a bug of the program
DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ESTALE,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}

LOCK_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}  # another process holds the lock


def lock_file(path: Path) -> IO[str]:
    """Lock a file until it is closed or the process ends; make its folder if needed.

    Raises:
        BlockingIOError: another process holds the lock.
        UserError: the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = open(path, "w")  # noqa: SIM115  the caller closes it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if error.errno in LOCK_BUSY:
            raise BlockingIOError(f"{path} is held") from None
        raise UserError(
            f"{path} cannot be locked ({error.strerror}): its file system has no file locks; have it mounted "
            "with them (Lustre: -o flock, NFS: its lock service), or take a directory elsewhere"
        ) from None
    return lock


def others_may_write(path: Path) -> Path | None:
    """Return the first of a path and the folders above it that group or others may write, None without any.

    In a folder with the sticky bit (/tmp) others may not rename what is not theirs.
    """
    path = path.resolve()
    for part in (path, *path.parents):
        mode = part.stat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            return part
    return None


def may_write(folder: Path) -> bool:
    """Whether this process may make files in a folder, or in the nearest one above it that exists."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK, effective_ids=True)


def is_disk_error(error: OSError) -> bool:
    """Whether an error is one of the disk or of its rights, not a bug; safetensors leaves out its number."""
    return error.errno in DISK_ERRORS or isinstance(error, PermissionError)


def disk_problem(error: OSError, path: Path | None = None) -> str:
    """Say in one line which file cannot be read or written, and why.

    Args:
        error: an error of the disk (see `is_disk_error`).
        path: what is named if the error names no file.
    """
    quoted = re.search(r"'([^']+)'", str(error))  # pyarrow names the file only in its text
    name = error.filename or (quoted[1] if quoted else path)
    unknown = errno.EACCES if isinstance(error, PermissionError) else errno.EIO
    reason = os.strerror(error.errno or unknown)
    what = f"{name} cannot be read or written" if name else "a file cannot be read or written"
    return f"{what} ({reason}): make room, allow it, or give another place"


def open_parts(folder: Path) -> Iterator[Path]:
    """Yield the folder, if it is there, and what is in it, if not only this user and root may write there."""
    for path in (folder, *folder.rglob("*")):
        if not path.exists() or path.is_symlink():
            continue
        status = path.stat()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (os.geteuid(), 0):
            yield path


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success, sync it and rename it to `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # unique to this process on all nodes
    try:
        yield part
        with open(part, "rb") as part_file:
            os.fsync(part_file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def reraise_disk_error(path: Path, *failures: type[Exception]) -> Iterator[None]:
    """Raise the disk's own OSError where a library fails to write `path` and hides the reason.

    After such a failure, a test write to `path` raises the OSError; if the disk accepts it, the failure is
    raised again.

    Args:
        path: the file that the library writes.
        failures: exceptions of the library; their texts change with its version.
    """
    try:
        yield
    except failures:
        with open(path, "ab") as file:
            file.write(bytes(CHUNK))
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, complete or not at all."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, complete or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON value.

    Raises:
        DamagedFile: it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFile(
            f"{path} is damaged ({error}): restore it, or remove what it belongs to and begin that anew"
        ) from None


def is_staging(folder: Path, about: str, others: Sequence[str]) -> bool:
    """Whether a folder is empty or holds staged work; the file that says of what may be lost.

    Args:
        folder: what may be one.
        about: name of that file.
        others: patterns of the names that may stand beside the lock where the file is lost.
    """
    if not folder.is_dir():
        return False
    names = [path.name for path in folder.iterdir()]
    known = all(any(fnmatch(name, pattern) for pattern in ("lock", *others)) for name in names)
    return not names or about in names or ("lock" in names and known)


def write_sealed(path: Path, value: Any) -> None:
    """Write `value` as JSON with its own SHA-256, complete or not at all."""
    write_json(path, {"sha256": _seal(value), "value": value})


def read_sealed(path: Path) -> Any:
    """Read the value that `write_sealed` wrote.

    Raises:
        DamagedFile: it is not what was written.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("sha256") != _seal(content.get("value")):
        raise DamagedFile(f"{path} is damaged (its content has another SHA-256 than when it was written)")
    return content["value"]


def _seal(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
