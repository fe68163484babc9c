"""Guards of the loop: they skip steps that are not finite, and name ranks that hang.

A step whose loss or gradient is not finite must not change the weights, the optimiser's moments or the
average, on any rank. The loss is summed over ranks anyway, and the norm covers all gradients, so all ranks
decide alike without another message. The step still counts as done: molecules, learning rates and
random numbers follow from its number, and a run that continues skips the same steps.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist

from mmgnn_dist.errors import EXIT_HUNG
from mmgnn_dist.files import read_json
from mmgnn_dist.process import exit_now
from mmgnn_dist.run_dir import RunDir

log = logging.getLogger(__name__)
ALIVE_EVERY = 60.0  # seconds between two lines in a rank's log that say it is alive
NOTE_EVERY = 5.0  # most seconds between two notes for the other ranks, where these are few
NOTES = 10.0  # notes of all ranks together, each second: a file server bears them for any number of ranks


class StepGuard:
    """Wraps the optimiser's `step`: skips it if the loss or the gradient is not finite, and clips at stage 0.

    Under ZeRO, DeepSpeed clips, and calls `step` once for each parameter group, at stage 3 once for each part
    of a group, and not at all if the norm of float32 gradients is not finite. At stage 0 the norm of all
    gradients is computed here, on the device; the host reads it together with the loss. A norm that overflows
    float32 would clip all gradients to zero, so it counts as not finite.

    Args:
        engine: DeepSpeed engine.
        clip: largest norm of the gradient; None for any.

    Attributes:
        taken: whether the last engine step changed the weights.
    """

    def __init__(self, engine: Any, clip: float | None) -> None:
        self._zero, self._clip = engine.optimizer, clip
        self._optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
        self._sharded = self._zero is not self._optimizer
        self._step: Callable[..., Any] = self._optimizer.step
        self._optimizer.step = self._guarded
        self._parameters = [p for p in engine.module.parameters() if p.requires_grad]
        self._norm = torch.zeros(1)
        self._finite = False
        self.taken = False

    def norm(self) -> torch.Tensor:
        """Norm of all gradients, [1] on the device; 0 under ZeRO, where DeepSpeed has it after its step.

        It is the same on every rank; call it after the backward pass.
        """
        device = self._parameters[0].device
        if self._sharded:
            return torch.zeros(1, device=device)
        norms = torch._foreach_norm(self._gradients())
        self._norm = torch.stack(norms).square().sum(0, keepdim=True).sqrt() if norms else self._norm
        return self._norm

    def judge(self, loss: float, norm: float) -> None:
        """Take the loss of the global batch and `norm`; call this between backward pass and engine's step."""
        self._finite = math.isfinite(loss) and math.isfinite(norm)
        self.taken = False

    def _guarded(self, *args: Any, **kwargs: Any) -> Any:
        if not self._finite or (self._sharded and not self._sharded_norm_finite()):
            return None
        if self._clip is not None and not self._sharded:
            scale = torch.clamp(self._clip / (self._norm + 1e-6), max=1.0)  # torch's and DeepSpeed's formula
            torch._foreach_mul_(self._gradients(), scale.squeeze(0))
        self.taken = True
        return self._step(*args, **kwargs)

    def _gradients(self) -> list[torch.Tensor]:
        return [p.grad for p in self._parameters if p.grad is not None]

    def _sharded_norm_finite(self) -> bool:
        """Whether DeepSpeed's norm, of the gradients on all ranks, is finite."""
        norm = float(self._zero._global_grad_norm)
        return math.isfinite(norm) and norm >= 0


def note_every(world: int, limit: float) -> float:
    """Return the seconds between two notes of a rank.

    Args:
        world: number of ranks.
        limit: seconds after which a rank without progress ends; its last note is then of that time.
    """
    return min(max(NOTE_EVERY, world / NOTES), limit / 4)


class HangWatchdog:
    """A thread of each rank that records its progress, and ends the rank if it makes none.

    `beat` counts the actions of the rank. All ranks do the same actions in the same order, so if one
    waits for ever, it waits for the ranks with the fewest beats. The rank that ends first closes the
    connections of the others: what they then raise ends them in the same way.

    Args:
        run: directory of the run; all ranks can read it.
        rank: number of this process, from 0.
        world: number of processes.
        limit: seconds without a beat after which the rank ends; a single rank never ends this way.
    """

    def __init__(self, run: RunDir, rank: int, world: int, limit: float) -> None:
        self.run, self.rank, self.world, self.limit = run, rank, world, limit
        self._beats, self._what, self._last = 0, "start", time.monotonic()
        self._started = time.time()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.run.alive(rank).unlink(missing_ok=True)  # note of an earlier start

    def __enter__(self) -> HangWatchdog:
        self.alive()
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.stop()
        if isinstance(error, Exception) and self._another_gave_up():
            log.error("another rank gave up and closed the connection", exc_info=error)
            self._give_up(time.monotonic() - self._last)

    def stop(self) -> None:
        """Stop the thread: this rank no longer waits for others."""
        self._end.set()
        self._thread.join()

    def beat(self, what: str) -> None:
        """Record the next action of the rank."""
        self._beats, self._what, self._last = self._beats + 1, what, time.monotonic()

    def alive(self) -> None:
        """Record that the rank still makes progress with the same action, without a new beat."""
        self._last = time.monotonic()

    def _note(self, gave_up: bool = False) -> None:
        note = {"beats": self._beats, "what": self._what, "time": time.time(), "gave_up": gave_up}
        path = self.run.alive(self.rank)
        part = path.with_suffix(".part")  # readers see whole files; no sync, as it need not survive a crash
        part.write_text(json.dumps(note), encoding="utf-8")
        part.replace(path)

    def _run(self) -> None:
        last_logged = -math.inf
        while True:
            idle = time.monotonic() - self._last
            if time.monotonic() - last_logged >= ALIVE_EVERY:
                last_logged = time.monotonic()
                log.info("alive: %s since %.0f s, %d beats", self._what, idle, self._beats)
            try:
                self._note()
                if self.world > 1 and idle > self.limit:
                    self._give_up(idle)
            except OSError as error:  # a full disk ends the run at its own writes, not here
                log.warning("the progress of this rank cannot be written: %s", error)
            if self._end.wait(note_every(self.world, self.limit)):
                return

    def _give_up(self, idle: float) -> None:
        message = (
            f"rank {self.rank}: no progress for {idle:.0f} s ({self._what}, train.timeout={self.limit:.0f})"
            f"; waited for {self.late()}"
        )
        log.error(message)
        print(f"mmgnn: {message}", file=sys.stderr, flush=True)
        with suppress(OSError):  # without the note the others end with the error of their connection
            self._note(gave_up=True)
        with suppress(Exception):  # it explains a hang, and must not keep the rank from ending
            self._dump_flight()
        exit_now(EXIT_HUNG)  # the thread that waits in a collective cannot be stopped

    def _dump_flight(self) -> None:
        """Write NCCL's last collectives, as its own timeout would; gloo records none."""
        dump = getattr(torch._C._distributed_c10d, "_dump_nccl_trace", None)  # only where torch has NCCL
        if dump is not None and dist.is_initialized() and dist.get_backend() == "nccl":
            place = self.run.flight_dump
            place.with_name(f"{place.name}{self.rank}").write_bytes(dump())

    def _notes(self) -> dict[int, Any]:
        """The last note of each rank that has written one."""
        paths = {rank: self.run.alive(rank) for rank in range(self.world)}
        return {rank: read_json(path) for rank, path in paths.items() if path.is_file()}

    def _another_gave_up(self) -> bool:
        """Whether another rank gave up since the start; a note of an earlier start does not count."""
        others = [note for rank, note in self._notes().items() if rank != self.rank]
        return any(note.get("gave_up") and note["time"] >= self._started for note in others)

    def late(self) -> str:
        """Describe the ranks with the fewest beats: the action of each, and the time since its last note."""
        notes = self._notes()
        silent = [f"rank {rank}: never heard of" for rank in range(self.world) if rank not in notes]
        if silent:
            return "; ".join(silent)
        least = min(note["beats"] for note in notes.values())
        now = time.time()
        return "; ".join(
            f"rank {rank} ({note['what']}, last heard of {now - note['time']:.0f} s ago)"
            for rank, note in notes.items()
            if note["beats"] == least
        )
