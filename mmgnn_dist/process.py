"""Exit without the shutdown of the interpreter, which threads of libraries can abort.

Such an exit leaves behind files that libraries remove at shutdown. Temporary folders made within
`temporary_folders` therefore lie in one folder of this process, which both ways of exit remove.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_folders: list[str] = []  # the folder of this process, once one is needed


@contextmanager
def temporary_folders() -> Iterator[None]:
    """Make temporary files inside the block in a folder that is removed with this process."""
    if not _folders:
        _folders.append(tempfile.mkdtemp(prefix="mmgnn-"))
        atexit.register(shutil.rmtree, _folders[0], ignore_errors=True)
    previous, tempfile.tempdir = tempfile.tempdir, _folders[0]
    try:
        yield
    finally:
        tempfile.tempdir = previous


def write_for_owner_only() -> None:
    """Let only the owner write to what this process and its children make, whatever the umask is."""
    os.umask(os.umask(0o077) | 0o022)


def exit_now(code: int) -> NoReturn:
    """End this process at once: flush nothing and wait for no other thread."""
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)
