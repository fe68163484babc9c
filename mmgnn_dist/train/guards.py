"""Guards of the loop: steps that are not finite are left out, ranks that hang are named.

A step whose loss or gradient is not finite must not reach the weights, the optimiser's moments or the
average, on any rank. The loss is summed over ranks anyway, and DeepSpeed's norm is that of all gradients, so
all ranks judge alike without another message. The step still counts as done: molecules, learning rates and
random numbers follow from its number, and a run that continues leaves the same steps out.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from mmgnn_dist.errors import EXIT_FAULT
from mmgnn_dist.files import read_json
from mmgnn_dist.process import exit_now
from mmgnn_dist.run_dir import RunDir

log = logging.getLogger(__name__)
ALIVE_EVERY = 60.0  # seconds between two lines of a rank in its log that say it lives
NOTE_EVERY = 5.0  # at most so many seconds between two notes for the other ranks


class StepGuard:
    """Stands before the optimiser's `step`.

    Under ZeRO the optimiser is called once a parameter group, under stage 3 once a part of one; DeepSpeed
    itself calls it not at all where the norm of float32 gradients is not finite. At stage 0 it clips before,
    and by a norm beyond float32 it clips all gradients to zero, so they are judged before that.

    Attributes:
        taken: whether the last engine step changed the weights.
    """

    def __init__(self, engine: Any) -> None:
        self._zero = engine.optimizer
        self._optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
        self._sharded = self._zero is not self._optimizer
        self._step: Callable[..., Any] = self._optimizer.step
        self._optimizer.step = self._guarded
        self._finite = False
        self.taken = False

    def judge(self, loss: float) -> None:
        """Tell the loss of the whole global batch, between its backward pass and the engine's step."""
        self._finite = math.isfinite(loss) and (self._sharded or self._norm_finite())
        self.taken = False

    def _guarded(self, *args: Any, **kwargs: Any) -> Any:
        if not self._finite or (self._sharded and not self._norm_finite()):
            return None
        self.taken = True
        return self._step(*args, **kwargs)

    def _norm_finite(self) -> bool:
        """Whether the norm of all gradients is finite; every rank finds the same."""
        if self._sharded:  # each rank has a part of them; the norm is that of the whole
            norm = float(self._zero._global_grad_norm)
            return math.isfinite(norm) and norm >= 0
        groups = self._optimizer.param_groups
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        return bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients)).norm()))


class HangWatchdog:
    """A thread of each rank that notes how far the rank is, and ends it if it gets no further.

    `beat` counts what the rank has done. All ranks do the same things in the same order, so where one waits
    for ever, the ranks with the fewest beats are those that it waits for.

    Args:
        run: directory of the run, that all ranks see.
        rank: number of this process, from 0.
        world: number of processes.
        limit: seconds without a beat after which the rank ends; a rank that is alone never waits.
    """

    def __init__(self, run: RunDir, rank: int, world: int, limit: float) -> None:
        self.run, self.rank, self.world, self.limit = run, rank, world, limit
        self._beats, self._what, self._last = 0, "start", time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.run.alive(rank).unlink(missing_ok=True)  # that of an earlier start

    def __enter__(self) -> HangWatchdog:
        self.alive()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the watch: this rank waits for no other one any more."""
        self._end.set()
        self._thread.join()

    def beat(self, what: str) -> None:
        """Say what the rank does next."""
        self._beats, self._what, self._last = self._beats + 1, what, time.monotonic()

    def alive(self) -> None:
        """Say that the rank goes on with what it does, and counts no further."""
        self._last = time.monotonic()

    def _note(self) -> None:
        note = {"beats": self._beats, "what": self._what, "time": time.time()}
        path = self.run.alive(self.rank)
        part = path.with_suffix(".part")  # whole for its readers; need not outlive a crash
        part.write_text(json.dumps(note), encoding="utf-8")
        part.replace(path)

    def _run(self) -> None:
        told = -math.inf
        while True:
            still = time.monotonic() - self._last
            if time.monotonic() - told >= ALIVE_EVERY:
                told = time.monotonic()
                log.info("alive: %s since %.0f s, %d beats", self._what, still, self._beats)
            try:
                self._note()
                if self.world > 1 and still > self.limit:
                    self._give_up(still)
            except OSError as error:  # a full disk ends the run where it must write, not here
                log.warning("no sign of life can be written: %s", error)
            if self._end.wait(min(NOTE_EVERY, self.limit / 4)):
                return

    def _give_up(self, still: float) -> None:
        message = (
            f"rank {self.rank}: no progress for {still:.0f} s ({self._what}, train.timeout={self.limit:.0f})"
            f"; waited for {self.late()}"
        )
        log.error(message)
        print(f"mmgnn: {message}", file=sys.stderr, flush=True)
        exit_now(EXIT_FAULT)  # the thread that waits in a collective cannot be asked to

    def late(self) -> str:
        """The ranks that have done least, what each was doing and when it was last heard of."""
        paths = {rank: self.run.alive(rank) for rank in range(self.world)}
        notes = {rank: read_json(path) for rank, path in paths.items() if path.is_file()}
        silent = [f"rank {rank}: never heard of" for rank in range(self.world) if rank not in notes]
        least = min(note["beats"] for note in notes.values())
        ago = time.time()
        return "; ".join(silent) or "; ".join(
            f"rank {rank} ({note['what']}, last heard of {ago - note['time']:.0f} s ago)"
            for rank, note in notes.items()
            if note["beats"] == least
        )
