"""Writing of checkpoints during training.

Between two steps every rank copies its part to host memory, and a thread of each rank writes the copy. The
ranks learn that all parts are written from the all-reduce that every step has anyway. Then the thread of the
first rank writes the manifest, renames the folder and prunes older checkpoints. The next save and the end of
a run wait for the previous save. An error in a thread is raised on all ranks after the next step.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, sync_folder, write_json
from mmgnn_dist.models.zero3 import count
from mmgnn_dist.run_records import CheckpointAbout, CheckpointManifest, FileEntry, LoopValues
from mmgnn_dist.train.checkpoint.host_copies import HostCopies, Recorder, Write, save_safetensors, write_files
from mmgnn_dist.train.checkpoint.store import (
    CHECKPOINT_MANIFEST,
    EMA,
    STATE,
    TAG,
    complete,
    discard,
    fault_of,
    folder_of,
    set_aside,
    step_of,
)
from mmgnn_dist.train.optim.optimizers import AdamW, checkpoint_bytes_per_parameter
from mmgnn_dist.train.ranks import Ranks

SLOW_DISK = 50e6  # bytes per second
log = logging.getLogger(__name__)


class Saver:
    """Saves the checkpoints of a run; every rank has one and calls it at the same steps.

    Args:
        folder: `checkpoints/` of the run.
        engine: the DeepSpeed engine.
        ranks: this process among all ranks.
        keep: number of newest checkpoints to keep, in addition to the best one.
        about: entries for the manifest.
        state_bytes: bytes of optimiser state for each trained parameter.

    Attributes:
        seconds: time in which this rank wrote its part of the last checkpoint, s; before the first one, an
            estimate from the number of parameters.
    """

    def __init__(
        self,
        folder: Path,
        engine: Any,
        ranks: Ranks,
        keep: int,
        about: CheckpointAbout,
        state_bytes: int = AdamW.state_bytes,
    ) -> None:
        self.folder, self.engine, self.ranks, self.keep, self.about = folder, engine, ranks, keep, about
        trained = sum(count(p) for p in engine.module.parameters() if p.requires_grad)
        self.seconds = trained * checkpoint_bytes_per_parameter(state_bytes, True) / SLOW_DISK
        self._copies = HostCopies()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._work: Future[None] | None = None  # current task of the thread
        # the same on all ranks:
        self._step: int | None = None  # step of the checkpoint in progress
        self._best = -1
        self._sealed = False  # all ranks have written it, and the first rank finishes it

    def save(self, ema: dict[str, torch.Tensor], state: LoopValues) -> None:
        """Wait for the previous checkpoint, copy that of `state["step"]` and begin to write it.

        Args:
            ema: averaged weights by name.
            state: state of the loop as plain values.

        Raises:
            UserError: the previous checkpoint or the folder of this one could not be written.
        """
        self.wait()
        self._step, self._best, self._sealed = state["step"], state["best_step"], False
        part = self._part
        self._agree(self._attempt(self._make_room, part) if self.ranks.is_rank0 else None)
        averaged, values = self._copies.take(EMA, ema) if self.ranks.is_rank0 else {}, dict(state)
        files = self._record(part)  # waits for all copies from a GPU
        if self.ranks.is_rank0:
            files[EMA] = lambda path: save_safetensors(averaged, path)
            files[STATE] = lambda path: write_json(path, values)
        self._work = self._thread.submit(self._write, part, files)

    def status(self) -> tuple[float, float]:
        """Return (1, 0) if this rank has written its part, (0, 1) if it failed, else (0, 0)."""
        if self._work is None or not self._work.done():
            return 0.0, 0.0
        if self._work.exception():
            return 0.0, 1.0
        return float(not self._sealed), 0.0

    def poll(self, written: float, failed: float) -> None:
        """Continue the save after a step, with the sums of `status` over all ranks.

        Args:
            written: number of ranks that have written their part.
            failed: number of ranks that failed.

        Raises:
            UserError: on all ranks, if one of them could not write.
        """
        if failed:
            self.wait()
        elif written == self.ranks.world:
            self._sealed, self._work = True, None
            if self.ranks.is_rank0:
                self._work = self._thread.submit(self._finish, self._part)

    def wait(self) -> None:
        """Wait until the checkpoint in progress is complete on disk.

        Raises:
            UserError: on all ranks, if one of them could not write.
        """
        if self._step is None:
            return
        work, self._work = self._work, None
        self._agree(self._attempt(work.result) if work else None)
        if not self._sealed:
            self._agree(self._attempt(self._finish, self._part) if self.ranks.is_rank0 else None)
        self._step = None

    def close(self) -> None:
        """End the thread after its current task."""
        self._thread.shutdown()

    @property
    def _part(self) -> Path:
        assert self._step is not None
        return self.folder / f".{folder_of(self._step)}.part"

    def _make_room(self, part: Path) -> None:
        for leftover in self.folder.glob(".step_*"):
            shutil.rmtree(leftover, ignore_errors=leftover != part)
        (part / TAG).mkdir(parents=True)

    def _record(self, part: Path) -> dict[str, Write]:
        """Let DeepSpeed save into copies; return a function for each of this rank's files that writes it."""
        engine = self.engine
        original, recorder = engine.checkpoint_engine, Recorder(engine.checkpoint_engine, self._copies, part)
        engine.checkpoint_engine = recorder
        # the original adds a script to the files, on one rank only
        engine._copy_recovery_script = lambda path: None
        try:
            engine.save_checkpoint(str(part), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
        finally:
            engine.checkpoint_engine = original
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize()
        return recorder.files

    def _write(self, part: Path, files: dict[str, Write]) -> None:
        """Write this rank's files, and last the list of them."""
        started = time.monotonic()
        write_json(part / f"rank_{self.ranks.rank}.json", write_files(part, files))
        self.seconds = time.monotonic() - started

    def _finish(self, part: Path) -> None:
        """Write the manifest, rename the folder and prune; only on the first rank."""
        files: dict[str, FileEntry] = {}
        for rank in range(self.ranks.world):
            listing = part / f"rank_{rank}.json"
            files |= read_json(listing)
            listing.unlink()
        sync_folder(part / TAG)
        assert self._step is not None
        manifest: CheckpointManifest = {
            **self.about,
            "step": self._step,
            "world": self.ranks.world,
            "files": files,
        }
        write_json(part / CHECKPOINT_MANIFEST, manifest)
        final = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
        if final.exists():
            set_aside(final)  # it could not be used, or the run would have continued from it
        part.rename(final)
        sync_folder(self.folder)
        if fault := fault_of(final):
            set_aside(final)
            raise OSError(errno.EIO, f"read back, {fault}", str(final))
        # later checkpoints, which this run could not use, do not count among those to keep
        up_to_now = [path for path in complete(self.folder) if step_of(path) <= step_of(final)]
        for old in up_to_now[: -self.keep]:
            if old.name != folder_of(self._best):
                discard(old)
        log.info("checkpoint %s stands", final.name)

    def _attempt(self, action: Callable[..., Any], *arguments: Any) -> str | None:
        """Call an action that uses files; return a disk error as text, None without any."""
        try:
            action(*arguments)
        except OSError as error:
            return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        return None

    def _agree(self, failure: str | None) -> None:
        """Raise on all ranks if one of them failed, and remove the checkpoint in progress.

        Raises:
            UserError: a rank passed a failure.
        """
        failures = [text for text in self.ranks.all_gather(failure) if text]
        if not failures:
            return
        step, part = self._step, self._part
        self._step = None
        if self.ranks.is_rank0:
            shutil.rmtree(part, ignore_errors=True)
        checkpoints = complete(self.folder)
        remaining = f"{checkpoints[-1].name} is kept" if checkpoints else "there is none before it"
        raise UserError(
            f"the checkpoint of step {step} cannot be written ({failures[0]}): {remaining}; make room or "
            f"allow writing in {self.folder}, then the same command continues"
        )
