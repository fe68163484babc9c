"""`mmgnn sync RUN`: write W&B's segments again from the journal, every step once, and upload them if asked.

A run that restarts writes one offline segment a start, some steps in two of them and some in none. The
replay reads the journal instead. It goes to `RUN/wandb/replay/`, one segment for each sync that finds
something new, and `RUN/wandb/replay/synced.json` says up to which step. The newest step of a run that still
trains is left for the next time, since more may come to be known of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from mmgnn_dist.config import load_recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine, SyncRecord
from mmgnn_dist.train.report.results import done
from mmgnn_dist.train.tracking.journal import STEPPED, read_journal
from mmgnn_dist.train.tracking.wandb_sink import Wandb, check_tracking, run_id

UPLOAD = 600  # seconds


class SyncResult(TypedDict):
    """What `mmgnn sync` tells: see `sync`."""

    id: str
    steps: int
    last: int
    finished: bool
    segments: list[str]
    uploaded: bool


def sync(run: Path, online: bool) -> SyncResult:
    """Replay what is new in the journal of a run.

    Args:
        run: run directory.
        online: upload all segments that are not uploaded yet.

    Returns:
        `id` of the run in W&B, `steps` that were new, the `last` step that is replayed, whether the run is
        `finished`, the `segments` of all syncs, and whether they are `uploaded`.

    Raises:
        UserError: no run there, one without tracking, or no way to W&B.
    """
    paths = RunDir(run)
    if not paths.recipe.is_file():
        raise UserError(f"no run at {run}: give a run directory made by 'mmgnn train'")
    recipe = load_recipe(paths.recipe)
    if recipe.track.wandb == "disabled":
        raise UserError(
            f"{run} has track.wandb=disabled, so it has no W&B run: train it with track.wandb=offline"
        )
    check_tracking(recipe)
    if online and recipe.track.wandb == "online":
        raise UserError(f"{run} has track.wandb=online: its steps are at W&B already, leave out --online")
    if online and not os.environ.get("WANDB_API_KEY"):
        raise UserError("--online needs your key in the environment: export WANDB_API_KEY=...")
    note = paths.wandb_synced
    before: SyncRecord = {"step": -1, "finished": False, "segments": []}
    if note.is_file():
        before = read_json(note)
    for left in _segments(run):
        if left.name not in before["segments"]:
            shutil.rmtree(left)  # by a sync that was interrupted
    finished = done(run, recipe)
    lines = _new_lines(read_journal(paths.journal), before["step"], finished)
    if lines or finished > before["finished"]:
        paths.wandb_replay.mkdir(parents=True, exist_ok=True)
        sink = Wandb(recipe, run, replay=paths.wandb_replay)
        for line in lines:
            sink(line)
        sink.finish(read_json(paths.metrics) if finished else None)
    last = lines[-1]["step"] if lines else before["step"]
    segments = _segments(run)
    after: SyncRecord = {
        "step": last,
        "finished": finished,
        "segments": [path.name for path in segments],
    }
    write_json(note, after)
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


def _new_lines(journal: list[JournalLine], after: int, finished: bool) -> list[JournalLine]:
    """Lines of steps later than `after`, without the newest step if more may be said of it."""
    lines = [line for line in journal if line["kind"] in STEPPED]
    newest = None if finished or not lines else lines[-1]["step"]
    return [line for line in lines if line["step"] > after and line["step"] != newest]


def _upload(segments: list[Path]) -> None:
    """Have W&B's own program upload what it has not marked as uploaded, the oldest first."""
    words = [sys.executable, "-m", "wandb", "sync", *map(str, segments)]
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=UPLOAD)
    except subprocess.TimeoutExpired:
        raise UserError(f"W&B did not take the run within {UPLOAD} s: try the same command again") from None
    missing = [path.name for path in segments if not list(path.glob("*.wandb.synced"))]
    if done.returncode != 0 or missing:
        said = (done.stderr + done.stdout).strip().splitlines()
        raise UserError(f"W&B did not take the run ({said[-1] if said else done.returncode}): try again")
