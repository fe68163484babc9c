"""The signals with which a shell, a launcher or Slurm asks a process to save and stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(Exception):
    """A stop signal arrived while there is no work to save."""


@contextmanager
def stop_flag() -> Iterator[list[int]]:
    """Collect stop signals inside the block; a second Ctrl-C raises KeyboardInterrupt at once."""
    seen: list[int] = []
    last_time = time.monotonic()

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal last_time
        # a terminal and a launcher may both forward the same Ctrl-C
        if number == signal.SIGINT and number in seen and time.monotonic() - last_time > 1.0:
            raise KeyboardInterrupt
        last_time = time.monotonic()
        seen.append(number)

    previous = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield seen
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
