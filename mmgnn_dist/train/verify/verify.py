"""`verify_run`: check the records of a run, then recompute a window of its steps from a checkpoint.

Nothing is written but a temporary folder, which is removed. Sidecars of the shard set that are missing are
made again, as for any run.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmgnn_dist.config import Recipe, load_stored_recipe
from mmgnn_dist.errors import EXIT_DONE, UserError
from mmgnn_dist.files import write_json
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine
from mmgnn_dist.train.checkpoint.store import read_checkpoint_manifest, refuse_foreign, step_of
from mmgnn_dist.train.launch import launch
from mmgnn_dist.train.ranks import check_gpus
from mmgnn_dist.train.tracking.journal import read_journal
from mmgnn_dist.train.verify.compare import compare_bits, compare_rounded, other_weights
from mmgnn_dist.train.verify.records import (
    STEPS,
    Fault,
    JournalRecord,
    checkpoint_faults,
    data_faults,
    read_record,
)
from mmgnn_dist.train.verify.replay import ReplayRequest, other_conditions, replay
from mmgnn_dist.train.verify.result import Verified

REPLAY = "mmgnn_dist.train.verify.replay"


def verify_run(folder: Path, steps: str = ":", nproc: int | None = None, quiet: bool = False) -> Verified:
    """Check the records of a run and recompute some of its steps.

    Args:
        folder: run directory.
        steps: `a:b`, both included, either may be left out; `none`: recompute nothing.
        nproc: number of ranks; None: as many as made the steps.
        quiet: show no progress on the terminal.

    Raises:
        UserError: there is no such run or window, the run is being trained, its checkpoints may be those of
            others, or these ranks cannot compute its steps again.
    """
    run = RunDir(folder)
    if not run.recipe.is_file():
        raise UserError(f"no run at {folder}: give a run directory made by 'mmgnn train'")
    _refuse_running(run)
    recipe = load_stored_recipe(run.recipe)
    record = read_record(run)
    window = _window(folder, steps, record)
    found = Verified(folder, record, list(record.faults))
    if run.checkpoints.is_dir():
        refuse_foreign(run.checkpoints)
    with Progress("verify", quiet) as progress:
        of_data = data_faults(run, recipe, record, progress)
        checkpoints = checkpoint_faults(run, progress)
    found.faults += [*of_data, *(fault for fault in checkpoints.values() if fault)]
    if window is None or of_data:
        return found
    first, last = window
    starts = record.starts(first, last)
    found.world = nproc or next((start["world"] for start in starts if "world" in start), 1)
    check_gpus(found.world)
    usable = [path for path, fault in checkpoints.items() if fault is None and step_of(path) < first]
    for begin in [*reversed(usable), None]:
        found.begin, found.last = begin, last
        if _recompute(found, recipe, begin, last, quiet):
            break  # else an older checkpoint, or the start, is as good
    return found


def _recompute(found: Verified, recipe: Recipe, begin: Path | None, last: int, quiet: bool) -> bool:
    """Recompute the steps after a checkpoint and compare them.

    Returns:
        False if the checkpoint has other weights than the run had, which is a fault of it.
    """
    recorded = found.record.steps
    again, here = _replayed(found, recipe, begin, last, quiet, disturbed=False)
    if not again:
        return True  # the journal has none of these lines, which is a fault of it
    starts = found.record.starts(again[0]["step"], last)
    found.first, found.reasons = again[0]["step"], other_conditions(here, starts, recipe.train.deterministic)
    if begin is not None and (other := other_weights(recorded[again[0]["step"]], again[0])):
        found.faults.append(Fault("weights", str(begin), other))
        return False
    if not found.reasons or other_weights(recorded[again[0]["step"]], again[0]):
        found.comparison = compare_bits(recorded, again)
        return True
    disturbed, _ = _replayed(found, recipe, begin, last, quiet, disturbed=True)
    found.comparison = compare_rounded(recorded, again, disturbed)
    return True


def _replayed(
    found: Verified, recipe: Recipe, begin: Path | None, last: int, quiet: bool, disturbed: bool
) -> tuple[list[JournalLine], JournalLine]:
    """Recompute steps in a temporary folder; return their lines, and the line `start`.

    Raises:
        UserError: the ranks could not compute them.
    """
    with _temporary() as folder:
        run = RunDir(folder)
        track = recipe.track.model_copy(update={"wandb": "disabled"})
        train = recipe.train.model_copy(update={"log_ids": False})
        recipe.model_copy(update={"track": track, "train": train}).save(run.recipe)
        manifest = read_checkpoint_manifest(begin) if begin else None
        if begin and manifest and manifest["world"] != found.world:
            # DeepSpeed converts the checkpoint beside it: a copy, as nothing is written into the run
            begin = Path(shutil.copytree(begin, run.checkpoints / begin.name))
        request: ReplayRequest = {
            "run": str(found.run.absolute()),
            "checkpoint": str(begin.absolute()) if begin else None,
            "last": last,
            "disturbed": disturbed,
        }
        write_json(run.replay, request)
        code = replay(folder, quiet) if found.world == 1 else launch(folder, found.world, REPLAY)
        if code != EXIT_DONE:
            raise UserError(f"the ranks that recompute the steps ended with exit code {code}: see above")
        lines = read_journal(run.journal)
        steps = found.record.steps
        return [line for line in lines if line["kind"] in STEPS and line["step"] in steps], lines[0]


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mmgnn-verify-") as folder:
        yield Path(folder)


def _window(folder: Path, steps: str, record: JournalRecord) -> tuple[int, int] | None:
    """Read `--steps`; None for `none`.

    Raises:
        UserError: it is no window, or the journal has no such steps.
    """
    if steps == "none":
        return None
    match = re.fullmatch(r"(\d*):(\d*)", steps)
    if not match:
        raise UserError(f"--steps {steps}: give first and last step, as in 101:200, 101: or :200, or none")
    if not record.steps:
        raise UserError(f"the journal of {folder} has no step: train the run first, or give --steps none")
    newest = max(record.steps)
    first, last = int(match[1] or min(record.steps)), int(match[2] or newest)
    if missing := [step for step in (first, last) if step not in record.steps]:
        raise UserError(
            f"--steps {steps}: the journal of {folder} has no step {missing[0]}, the last is {newest}"
        )
    if first > last:
        raise UserError(f"--steps {steps}: the first step is after the last")
    return first, last


def _refuse_running(run: RunDir) -> None:
    """Refuse a run that is being trained: its journal grows and its checkpoints go.

    Raises:
        UserError: another process holds the lock of the run.
    """
    if not run.lock.is_file():
        return
    with open(run.lock, encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{run.path} is being trained by another process: wait for it, or end it"
            ) from None
