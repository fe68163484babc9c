"""How a process ends that does not wait for the interpreter, because threads of its libraries can abort that.

What a library would remove as the interpreter ends stays behind then. Temporary folders that are made within
`temporary_folders` lie in one folder of this process, which goes with it whichever way it leaves.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_folders: list[str] = []  # one, once it is asked for


@contextmanager
def temporary_folders() -> Iterator[None]:
    """Have what makes temporary files inside of the block make them where they go with this process."""
    if not _folders:
        _folders.append(tempfile.mkdtemp(prefix="mmgnn-"))
        atexit.register(shutil.rmtree, _folders[0], ignore_errors=True)
    before, tempfile.tempdir = tempfile.tempdir, _folders[0]
    try:
        yield
    finally:
        tempfile.tempdir = before


def exit_now(code: int) -> NoReturn:
    """End this process at once: nothing is flushed, no other thread is waited for."""
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)
