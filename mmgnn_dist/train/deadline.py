"""The time by which a run has to have left: `train.deadline`, or the end of its Slurm allocation.

Whether it is near is asked before every step. What a step may take is the longest time that has passed
between two of these questions (with what lay between: a validation, a wait for a checkpoint). Twice that and
twice the time of a checkpoint are kept, and a share of the whole time for leaving.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

LEAVING = 0.05  # share of the whole time kept for the way out ...
MOST = 60.0  # ... and the most of it, seconds


class Deadline:
    """Says when to stop.

    Args:
        seconds: from now on, None for no deadline but that of `SLURM_JOB_END_TIME` (seconds since 1970).
        clock: seconds since 1970.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._asked: float | None = None
        self._longest = 0.0
        start = clock()
        ends = [] if seconds is None else [start + seconds]
        if end := os.environ.get("SLURM_JOB_END_TIME"):
            ends.append(float(end))
        self._end = min(ends, default=None)
        self._leaving = min(MOST, LEAVING * max(0.0, self._end - start)) if self._end else 0.0

    def near(self, save: float) -> bool:
        """Whether the step that begins now is to be the last one; `save`: seconds that a checkpoint takes."""
        now = self._clock()
        if self._asked is not None:
            self._longest = max(self._longest, now - self._asked)
        self._asked = now
        return self._end is not None and now + 2 * (self._longest + save) + self._leaving >= self._end
