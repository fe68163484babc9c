"""The time by which a run must end: `train.deadline`, or the end of its Slurm allocation.

The loop asks before every step whether the deadline is near. The time reserved for a step is the longest time
between two such calls, with any validation or wait for a checkpoint between them. The reserve is twice
that time, twice the time of a checkpoint, and a share of the total time for the shutdown. A clock that is
far past the end of the allocation already at the start is wrong: then only Slurm's signal ends the run.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable

LEAVING = 0.05  # share of the total time reserved for the shutdown ...
MOST = 60.0  # ... and its upper limit, seconds
LATE = 120.0  # seconds after the end of its allocation at which no rank can start, unless its clock is wrong


class Deadline:
    """Decides when the loop has to stop.

    Args:
        seconds: time limit from now; None for only that of `SLURM_JOB_END_TIME` (seconds since 1970).
        clock: returns the time in seconds since 1970.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._asked: float | None = None
        self._longest = 0.0
        start = clock()
        ends = [] if seconds is None else [start + seconds]
        if end := os.environ.get("SLURM_JOB_END_TIME"):
            if start - float(end) < LATE:
                ends.append(float(end))
            else:  # otherwise every start would save and stop after one step
                print(
                    f"mmgnn: the clock of {socket.gethostname()} is {start - float(end):.0f} s past the end "
                    "of this allocation: it is taken for wrong, and the end is left to Slurm's signal",
                    file=sys.stderr,
                    flush=True,
                )
        self._end = min(ends, default=None)
        self._leaving = min(MOST, LEAVING * max(0.0, self._end - start)) if self._end else 0.0

    def near(self, save: float) -> bool:
        """Whether the step that begins now must be the last one; a checkpoint takes `save` seconds."""
        now = self._clock()
        if self._asked is not None:
            self._longest = max(self._longest, now - self._asked)
        self._asked = now
        return self._end is not None and now + 2 * (self._longest + save) + self._leaving >= self._end
