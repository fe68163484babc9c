"""Peak memory of a process and all below it."""

from __future__ import annotations

import threading

import psutil


class PeakMemory:
    """Peak of the summed PSS of a process (this one, if none is named) and all below it, in bytes."""

    def __init__(self, pid: int | None = None) -> None:
        self._root = psutil.Process(pid)

    def __enter__(self) -> PeakMemory:
        self.peak, self._over = 0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            total = 0
            for process in self._all():
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)

    def _all(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []
