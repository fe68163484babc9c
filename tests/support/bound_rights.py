"""File permissions that bind, also where tests run as root."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = 0x20080522  # of the structures of capget(2), with two words for each set
OVERRIDES = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextmanager
def bound_rights() -> Iterator[None]:
    """Give up root's right to read and write everything inside the block; for this thread and new ones."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(head, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~OVERRIDES
    assert libc.capset(head, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(head, sets) == 0


@contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """Let nobody write to some folders, with all that is in them, inside the block."""
    parts = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    modes = {path: path.stat().st_mode for path in parts}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        with bound_rights():
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
