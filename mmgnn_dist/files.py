"""Files that are complete or absent, and checksums.

Everything that others may read while it is written goes through a name of its own in the same folder,
is synced, and is renamed at the end: a crash leaves the old content or none, never half of it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mmgnn_dist.errors import UserError

CHUNK = 1 << 22
# the disk is full, a quota or a limit was met, or writing is not allowed: nothing that a program does wrong
DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
}

LOCK_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}  # a lock that another process has


def lock_file(path: Path) -> IO[str]:
    """Lock a file until it is closed or the process ends; its folder is made.

    Raises:
        BlockingIOError: if another process holds it.
        UserError: if the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = open(path, "w")  # noqa: SIM115  held, then closed by the caller
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


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced and renamed to `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # of no other process on any node
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def reraise_disk_error(path: Path, *failures: type[Exception]) -> Iterator[None]:
    """Around a library that writes `path` and hides why it cannot: the disk is asked, and says it as OSError.

    Args:
        path: that is written.
        failures: what the library raises, of texts that change with its version.
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
    """Read one JSON value."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        while block := content.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
