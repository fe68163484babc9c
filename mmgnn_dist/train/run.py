"""The entry point of training: `run(folder)`, idempotent on its run directory.

The run directory needs only a `recipe.yaml`. Training starts, continues from the newest complete checkpoint,
or returns at once if the run is done. Every rank calls `run`; launchers use
`python -m mmgnn_dist.train.run DIR`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, NoReturn

from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import EXIT_DONE, EXIT_FAULT, EXIT_STOPPED, EXIT_USER, UserError
from mmgnn_dist.files import disk_problem, is_disk_error, lock_file
from mmgnn_dist.process import exit_now, temporary_folders, write_for_owner_only
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.signals import Stopped, stop_flag
from mmgnn_dist.train.deadline import Deadline
from mmgnn_dist.train.guards import HangWatchdog
from mmgnn_dist.train.inputs import open_inputs
from mmgnn_dist.train.provenance import refuse_changed
from mmgnn_dist.train.ranks import init_distributed, set_deterministic, uses_gpus
from mmgnn_dist.train.report.results import done
from mmgnn_dist.train.stages.sequence import train_stages
from mmgnn_dist.train.stages.setting import Setting
from mmgnn_dist.train.stored.recipe import stored_recipe

LOCK_WAIT = 240.0  # seconds that a requeued job waits for the lock of the run directory


def run(folder: Path, quiet: bool = False, verified: VerifiedFiles | None = None) -> int:
    """Run the recipe of a directory to its end and write the results.

    Args:
        folder: run directory with `recipe.yaml`.
        quiet: show no progress on the terminal.
        verified: checksums that this process has computed; None loads those of the run directory.

    Returns:
        Exit code: done, or stopped cleanly by a signal (the same call continues).

    Raises:
        UserError: the input is wrong.
    """
    paths = RunDir(folder)
    recipe = stored_recipe(paths)
    deadline = Deadline(recipe.train.deadline)
    with temporary_folders():  # libraries and W&B's process make some, also for the life of the process
        return _run(paths, recipe, deadline, quiet, verified)


def _run(
    paths: RunDir, recipe: Recipe, deadline: Deadline, quiet: bool, verified: VerifiedFiles | None
) -> int:
    """Run a recipe whose time is counted by `deadline`."""
    folder = paths.path
    # always without a GPU: it costs nothing there, and sums on several threads have no fixed order
    set_deterministic(recipe.train.deterministic or not uses_gpus())
    _record_flight(paths)
    ranks = init_distributed(recipe.train.threads, recipe.train.timeout)
    lock: IO[str] | None = None
    handler: logging.Handler = logging.NullHandler()
    try:
        paths.logs.mkdir(exist_ok=True)
        lock = _only_one(folder) if ranks.is_rank0 else None
        handler = _log_to(paths.rank_log(ranks.rank))
        refuse_changed({folder: recipe})
        if done(folder, recipe):
            return EXIT_DONE
        if verified is None:
            verified = VerifiedFiles()
            verified.load(paths.verified)
        inputs = open_inputs(recipe, ranks.is_rank0, verified=verified, run=paths)
        if ranks.is_rank0:
            verified.save(paths.verified)
        watch = HangWatchdog(paths, ranks.rank, ranks.world, recipe.train.timeout)
        with watch, Progress(folder.name, quiet or not ranks.is_rank0) as progress, stop_flag() as signals:
            ranks = replace(ranks, beat=watch.beat, alive=watch.alive, signals=signals)
            try:
                setting = Setting(
                    run=paths,
                    inputs=inputs,
                    ranks=ranks,
                    progress=progress,
                    deadline=deadline,
                    watch=watch,
                )
                return train_stages(setting)
            except Stopped:
                progress.say("stopped between two steps; the same command continues")
                return EXIT_STOPPED
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise UserError(f"{disk_problem(error, folder)}; then the same command continues") from error
    finally:
        logging.getLogger("mmgnn_dist").removeHandler(handler)
        if lock:
            lock.close()


def _record_flight(run: RunDir) -> None:
    """Have NCCL's flight recorder keep the last collectives, and write them into the run if one times out.

    Variables that the user has set stay as they are; gloo does not read them. A rank that the watchdog ends
    writes its dump itself: the watchdog is earlier than NCCL.
    """
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "2000")
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    place = os.environ.get("TORCH_FR_DUMP_TEMP_FILE", "")
    if not place or place.endswith(run.flight_dump.name):  # none, or that of another run of this process
        os.environ["TORCH_FR_DUMP_TEMP_FILE"] = str(run.flight_dump.absolute())


def _only_one(folder: Path) -> IO[str]:
    """Lock the run directory until the file is closed or the process ends.

    Raises:
        UserError: another process trains it.
    """
    # a node that Slurm lost may still compute for a while, or a file server may keep the lock of a dead node
    starts = (os.environ.get(name, "0") for name in ("SLURM_RESTART_COUNT", "MMGNN_START"))  # job.sh
    end = time.monotonic() + (LOCK_WAIT if any(start != "0" for start in starts) else 0)
    while True:
        try:
            return lock_file(RunDir(folder).lock)
        except BlockingIOError:
            if time.monotonic() >= end:
                problem = "is being trained by another process: wait for it, or end it"
                raise UserError(f"{folder} {problem}") from None
        time.sleep(0.5)


def _log_to(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("mmgnn_dist")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return handler


def main() -> int:
    """Train as a launched rank; return the exit code."""
    return work_as_rank(run)


def work_as_rank(work: Callable[[Path], int]) -> int:
    """Run a launched rank; return its exit code even after a fault, so that no other rank waits for it.

    Args:
        work: called with the directory of the command line; returns the exit code.
    """
    write_for_owner_only()
    try:
        return work(Path(sys.argv[1]))
    except UserError as error:
        print(f"mmgnn: {error}", file=sys.stderr)
        return EXIT_USER
    except Exception:
        traceback.print_exc()
        return EXIT_FAULT


def end_rank(exit_code: int) -> NoReturn:
    """End the process of a rank: gloo's threads can abort the interpreter at exit, after all is written."""
    sys.stdout.flush()
    sys.stderr.flush()
    exit_now(exit_code)


if __name__ == "__main__":
    end_rank(main())
