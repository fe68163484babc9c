"""The signals by which a shell, a launcher or Slurm asks a process to save and leave."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(Exception):
    """A stop signal came where nothing is under way that would have to be saved."""


@contextmanager
def stop_flag() -> Iterator[list[int]]:
    """Collect stop signals inside the block: the handler only notes them; a second Ctrl-C does not wait."""
    seen: list[int] = []
    first = time.monotonic()

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        # a terminal and a launcher may both pass on the same Ctrl-C
        if number == signal.SIGINT and number in seen and time.monotonic() - first > 1.0:
            raise KeyboardInterrupt
        first = time.monotonic()
        seen.append(number)

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
