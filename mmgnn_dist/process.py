"""Exit without the shutdown of the interpreter, which threads of libraries can abort; temporary folders.

Such an exit leaves behind files that libraries remove at shutdown, and a killed process leaves everything.
Temporary files therefore lie in a folder of this process, which both ways of exit remove. A folder is locked
while its process lives, so that a later process knows those of dead ones and removes them.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

PREFIX = "mmgnn-"  # of the temporary folders of processes
NEW = ".new"  # end of the name of a folder that is not locked yet
LOCK = ".lock"  # locked while the folder's process lives; holds the name of the machine

_locks: dict[Path, int] = {}  # folders of this process, and the descriptors of their locks
_owned: dict[int, Path] = {}  # the folder of a process, by its id: a forked process has none at first


def make_owned_folder(parent: Path, prefix: str) -> Path:
    """Make a folder that only this user can enter, and that is dead once this process has ended.

    Args:
        parent: folder in which it is made.
        prefix: first part of its name, by which later processes find it.

    Returns:
        The folder. Where its file system has no locks, later processes leave it alone.
    """
    new = Path(tempfile.mkdtemp(prefix=prefix, suffix=NEW, dir=parent))
    (new / LOCK).write_text(socket.gethostname(), encoding="utf-8")
    lock = os.open(new / LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (new / LOCK).unlink()
    folder = new.rename(new.with_name(new.name.removesuffix(NEW)))
    _locks[folder] = lock
    return folder


def remove_owned_folder(folder: Path) -> None:
    """Remove a folder that this process has made by `make_owned_folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(KeyError):
        os.close(_locks.pop(folder))


@contextmanager
def owned_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder that goes with the block; first remove those that killed processes have left there."""
    remove_dead_folders(parent, prefix)
    folder = make_owned_folder(parent, prefix)
    try:
        yield folder
    finally:
        remove_owned_folder(folder)


def dead_folders(parent: Path, prefix: str) -> list[Path]:
    """Return the folders of this user whose process has ended; those of other machines are not known."""
    return [path for path in sorted(parent.glob(f"{prefix}*")) if _is_dead(path)]


def remove_dead_folders(parent: Path, prefix: str) -> list[Path]:
    """Remove the folders of dead processes; returns them."""
    found = dead_folders(parent, prefix)
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _is_dead(folder: Path) -> bool:
    try:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or folder.name.endswith(NEW):
            return False
        if (folder / LOCK).read_text(encoding="utf-8") != socket.gethostname():
            return False
        with open(folder / LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, UnicodeDecodeError):  # locked, no such folder of ours, or gone meanwhile
        return False
    return True


def _own_folder() -> Path:
    """Return the temporary folder of this process; it is made when it is first needed."""
    if os.getpid() not in _owned:
        parent = Path(tempfile.gettempdir())
        remove_dead_folders(parent, PREFIX)
        _owned[os.getpid()] = make_owned_folder(parent, PREFIX)
        atexit.register(_remove_own)
    return _owned[os.getpid()]


def _remove_own() -> None:
    if folder := _owned.pop(os.getpid(), None):
        remove_owned_folder(folder)


@contextmanager
def temporary_folders() -> Iterator[None]:
    """Have this process, and those that it starts in the block, make temporary files in its own folder."""
    folder, before, variable = str(_own_folder()), tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable


def write_for_owner_only() -> None:
    """Let only the owner write to what this process and its children make, whatever the umask is."""
    os.umask(os.umask(0o077) | 0o022)


def exit_now(code: int) -> NoReturn:
    """End this process at once: flush nothing and wait for no other thread."""
    _remove_own()
    os._exit(code)
