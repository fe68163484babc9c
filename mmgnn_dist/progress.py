"""Progress of long work: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

INTERVAL = 10.0  # seconds between lines if stderr is not a terminal


class Progress:
    """A progress display: call it with `(done, total, note)`, and use it as a context manager.

    Args:
        title: name of the work.
        quiet: print nothing (ranks other than the first, `--json`).
    """

    def __init__(self, title: str, quiet: bool = False) -> None:
        self.title, self.quiet = title, quiet
        self._last, self._line = 0.0, ""
        self._first: tuple[float, int] | None = None  # time and place of the first call
        self._bar = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(20),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self._task = self._bar.add_task(title, total=None, note="")

    def __enter__(self) -> Progress:
        """Show the bar."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Stop the bar and leave it on the screen."""
        if self._bar:
            self._bar.stop()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` units are done."""
        if self.quiet:
            return
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, note=note)
            return
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            self._first = now, done
        line = f"{self.title} {done}/{total} {note}".rstrip()
        if left := remaining(now - self._first[0], done - self._first[1], total - done):
            line += f"  {left}"
        if (now - self._last >= INTERVAL or done == total) and line != self._line:
            self._last, self._line = now, line
            print(line, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print a permanent line."""
        if self.quiet:
            return
        if self._bar:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def remaining(seconds: float, done: int, left: int) -> str:
    """Say in words how long `left` units will take if `done` took some seconds; "" if it is not known."""
    if done <= 0 or left <= 0 or seconds <= 0:
        return ""
    minutes, rest = divmod(round(seconds / done * left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} left" if hours else f"{minutes}:{rest:02d} left"


def quiet_libraries() -> None:
    """Keep libraries from writing between the lines of a progress bar; call it before they are imported."""
    defaults = {
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
