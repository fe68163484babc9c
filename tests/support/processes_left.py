"""Which processes are left of something that was started with a mark in its environment."""

from __future__ import annotations

import time
from pathlib import Path

MARK = "MMGNN_TEST_MARK"


def marked(mark: str) -> dict[int, str]:
    """Command lines of the living processes with this mark, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return {pid: words for pid, words in found.items() if words}


def none_left(mark: str, seconds: float = 180) -> None:
    """Wait until no marked process lives."""
    end = time.monotonic() + seconds
    while left := marked(mark):
        assert time.monotonic() < end, left
        time.sleep(0.5)
