"""`mmgnn sync RUN`: write W&B segments again from the journal, every step once, and upload them on request.

A run that restarts writes one offline segment a start, with some steps in two segments and some in none. The
replay reads the journal instead. It writes to `RUN/wandb/replay/`, one segment for each sync that finds new
steps, and `RUN/wandb/replay/synced.json` has the last step. The newest step of a run that still trains is
left for the next sync, since the journal may get more lines of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from mmgnn_dist.config import load_stored_recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine, SyncRecord
from mmgnn_dist.train.report.results import done
from mmgnn_dist.train.tracking.journal import STEPPED, read_journal
from mmgnn_dist.train.tracking.wandb_sink import Wandb, check_tracking, run_id

UPLOAD = 600  # seconds


class SyncResult(TypedDict):
    """Result of `mmgnn sync`; see `sync`."""

    id: str
    steps: int
    last: int
    finished: bool
    segments: list[str]
    uploaded: bool


def sync(run: Path, online: bool) -> SyncResult:
    """Replay the new steps in the journal of a run.

    Args:
        run: run directory.
        online: upload all segments that are not uploaded yet.

    Returns:
        `id` of the run in W&B, number of new `steps`, the `last` step replayed, whether the run is
        `finished`, the `segments` of all syncs, and whether they are `uploaded`.

    Raises:
        UserError: the run is missing or has no tracking, or the upload fails.
    """
    paths = RunDir(run)
    if not paths.recipe.is_file():
        raise UserError(f"no run at {run}: give a run directory made by 'mmgnn train'")
    recipe = load_stored_recipe(paths.recipe)
    if recipe.track.wandb == "disabled":
        raise UserError(
            f"{run} has track.wandb=disabled, so it has no W&B run: train it with track.wandb=offline"
        )
    check_tracking(recipe)
    if online and recipe.track.wandb == "online":
        raise UserError(f"{run} has track.wandb=online: its steps are at W&B already, leave out --online")
    if online and not os.environ.get("WANDB_API_KEY"):
        raise UserError("--online needs your key in the environment: export WANDB_API_KEY=...")
    record_path = paths.wandb_synced
    old_record: SyncRecord = {"step": -1, "finished": False, "segments": []}
    if record_path.is_file():
        old_record = read_json(record_path)
    for segment in _segments(run):
        if segment.name not in old_record["segments"]:
            shutil.rmtree(segment)  # left by an interrupted sync
    finished = done(run, recipe)
    lines = _new_lines(read_journal(paths.journal), old_record["step"], finished)
    if lines or finished > old_record["finished"]:
        paths.wandb_replay.mkdir(parents=True, exist_ok=True)
        sink = Wandb(recipe, run, replay=paths.wandb_replay)
        for line in lines:
            sink(line)
        sink.finish(read_json(paths.metrics) if finished else None)
    last = lines[-1]["step"] if lines else old_record["step"]
    segments = _segments(run)
    new_record: SyncRecord = {
        "step": last,
        "finished": finished,
        "segments": [path.name for path in segments],
    }
    write_json(record_path, new_record)
    if online and segments:
        _upload(segments)
    return {
        "id": run_id(run),
        "steps": len({line["step"] for line in lines}),
        "last": last,
        "finished": finished,
        "segments": [str(path) for path in segments],
        "uploaded": online,
    }


def _segments(run: Path) -> list[Path]:
    return sorted((RunDir(run).wandb_replay / "wandb").glob("offline-run-*"))


def _new_lines(journal: list[JournalLine], last_step: int, finished: bool) -> list[JournalLine]:
    """Return lines of steps later than `after`, without the newest step if the run is not finished."""
    lines = [line for line in journal if line["kind"] in STEPPED]
    newest = None if finished or not lines else lines[-1]["step"]
    return [line for line in lines if line["step"] > last_step and line["step"] != newest]


def _upload(segments: list[Path]) -> None:
    """Upload segments with W&B's own program, the oldest first; it skips segments marked as uploaded."""
    command = [sys.executable, "-m", "wandb", "sync", *map(str, segments)]
    try:
        process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=UPLOAD)
    except subprocess.TimeoutExpired:
        raise UserError(f"W&B did not take the run within {UPLOAD} s: try the same command again") from None
    missing = [path.name for path in segments if not list(path.glob("*.wandb.synced"))]
    if process.returncode != 0 or missing:
        output = (process.stderr + process.stdout).strip().splitlines()
        raise UserError(
            f"W&B did not take the run ({output[-1] if output else process.returncode}): try again"
        )
