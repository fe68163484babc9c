"""Which run a directory belongs to: training refuses to continue a run with another recipe or other data.

A directory in which nothing has been trained belongs to nobody: a run that was refused, or that never began,
leaves it to another recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmgnn_dist.config import Recipe, load_stored_recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import lock_file, may_write
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.provenance import refuse_changed
from mmgnn_dist.train.report.results import done
from mmgnn_dist.train.tracking.journal import read_journal


def is_begun(folder: Path) -> bool:
    """Whether a run directory holds a run: one that has made a step, is at work, or waits as a job."""
    run = RunDir(folder)
    if any(path.is_file() for path in (run.metrics, run.job, run.submission)):
        return True
    stepped = any(line["kind"] == "train" for line in read_journal(run.journal))
    if stepped or checkpoint.complete(run.checkpoints):
        return True
    return run.lock.is_file() and _is_locked(run.lock)


def _is_locked(path: Path) -> bool:
    """Whether another process holds the lock of a run directory."""
    try:
        lock_file(path).close()
    except BlockingIOError:
        return True
    return False


def refuse_other(runs: dict[Path, Recipe]) -> None:
    """Check that existing run directories were made from these recipes and from the same data.

    Args:
        runs: recipe of each run directory; a directory need not exist.

    Raises:
        UserError: one of them was not, or a path cannot be a run directory.
    """
    for folder, recipe in runs.items():
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"{existing} is a file: give a directory for the run (--run DIR, --dir DIR)")
        if patterns := set("*?[]") & set(str(folder)):
            raise UserError(
                f"{folder}: DeepSpeed takes {' '.join(sorted(patterns))} for patterns and would find no "
                "checkpoint there again; give a directory without them (--run DIR, --dir DIR)"
            )
        if not may_write(folder) and not done(folder, recipe):
            raise UserError(
                f"{folder} cannot be written by you: give another directory (--run DIR, for a study "
                "--dir DIR)"
            )
        if not RunDir(folder).recipe.is_file():
            continue
        other = load_stored_recipe(RunDir(folder).recipe)
        if other.fingerprint() != recipe.fingerprint() and is_begun(folder):
            keys = differences(other.identity_fields(), recipe.identity_fields())
            raise UserError(
                f"{folder} holds a run of another recipe ({', '.join(keys)} differ): give another directory "
                f"(--run DIR, for a study --dir DIR){_goes_on(other, keys)}"
            )
    refuse_changed(runs)


def _goes_on(other: Recipe, keys: list[str]) -> str:
    """Say how to go on with a run that was begun before a key had its default of today; else nothing."""
    dumped, known, told = other.model_dump(mode="json"), other.identity_fields(), []
    for key in keys:
        section, _, name = key.rpartition(".")
        within, value = known, dumped
        for part in filter(None, section.split(".")):
            within, value = within.get(part, {}), value.get(part, {})
        if name in within or name not in value:
            return ""
        told.append(f"{key}={value[name]}")
    return f", or go on with {' '.join(told)}: an earlier version began it"


def differences(a: dict[str, Any], b: dict[str, Any], above: str = "") -> list[str]:
    """Return the dotted keys whose values differ."""
    keys = []
    for key in a.keys() | b.keys():
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            keys += differences(left, right, f"{above}{key}.")
        elif left != right:
            keys.append(above + key)
    return sorted(keys)
