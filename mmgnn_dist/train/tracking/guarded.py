"""A sink of the journal that never stops or ends a run.

Slurm signals every process of a step, so the process of a tracker may die at any line, stop, or wait for a
network. A thread therefore sends the lines, and training neither waits for it nor sees its errors. After the
first error the sink gets no more lines: the journal goes on alone, with one line of kind `tracker` that says
why, and `mmgnn sync` makes the record whole.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from mmgnn_dist.run_records import JournalLine, RunMetrics

ERRORS = (
    Exception,
    SystemExit,
)  # W&B exits the program with the exit code of its own process, if that was killed
PATIENCE = 600.0  # seconds that the end of a run waits for the last lines, plots and artifacts to be sent


class Sink(Protocol):
    """A record of the run beside its journal."""

    def __call__(self, line: JournalLine) -> None:
        """Send one line of the journal."""

    def finish(self, results: RunMetrics | None) -> None:
        """Send the results of a finished run (None: it is not finished) and end the record."""

    def abandon(self) -> None:
        """End the sink's own processes at once, after an error."""


class GuardedSink:
    """Sends lines to a sink in a thread of its own, until the sink fails.

    Args:
        name: name of the sink for messages.
        make: makes the sink; called at once, an error counts as the sink's first one.
        tell: called once, in the thread of the caller, with one line that says why the sink gets no more.
        patience: most seconds that `finish` waits.
    """

    def __init__(
        self, name: str, make: Callable[[], Sink], tell: Callable[[str], None], patience: float = PATIENCE
    ) -> None:
        self._name, self._tell, self._patience = name, tell, patience
        self._fault: str | None = None
        self._told = False
        self._sink: Sink | None = None
        self._lines: queue.SimpleQueue[JournalLine | None] = queue.SimpleQueue()
        self._results: RunMetrics | None = None
        try:
            self._sink = make()
        except ERRORS as error:
            self._fault = _words(error)
        self._thread = threading.Thread(target=self._send, name=name, daemon=True)
        self._thread.start()
        self._tell_once()

    def __call__(self, line: JournalLine) -> None:
        """Send one line, if the sink still works; never waits."""
        if self._fault is None:
            self._lines.put(line)
        self._tell_once()

    def finish(self, results: RunMetrics | None) -> None:
        """Send the rest and end the sink; wait for it no longer than `patience`."""
        self._results = results
        self._lines.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive() and self._fault is None:
            self._fault = f"it took nothing for {self._patience:g} s"
        if self._fault is not None and self._sink is not None:
            with suppress(*ERRORS):
                self._sink.abandon()
        self._tell_once()

    def _send(self) -> None:
        while self._fault is None and self._sink is not None:
            line = self._lines.get()
            try:
                if line is None:
                    self._sink.finish(self._results)
                    return
                self._sink(line)
            except ERRORS as error:
                self._fault = _words(error)

    def _tell_once(self) -> None:
        if self._fault is not None and not self._told:
            self._told = True
            self._tell(f"{self._name} gets no more of this run ({self._fault}); the journal goes on")


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
