"""Run of one cell of a study; a failure is recorded in its run directory and does not stop other cells."""

from __future__ import annotations

import gc
import traceback
from pathlib import Path

from mmgnn_dist.errors import EXIT_DONE, EXIT_STOPPED, UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import FailureRecord

DONE, FAILED, STOPPED, PART, WAITING = "done", "failed", "stopped", "part", "waiting"


def run_cell(folder: Path, quiet: bool = True) -> str:
    """Start or continue the run of a cell; return `done`, `stopped` (signal, deadline) or `failed`."""
    from mmgnn_dist.train.run import run

    RunDir(folder).failure.unlink(missing_ok=True)
    try:
        code = run(folder, quiet=quiet)
    except UserError as error:
        return record_failure(folder, str(error))
    except Exception as error:
        last = traceback.format_exception_only(error)[-1].strip()
        return record_failure(folder, f"fault: {last}", traceback.format_exc())
    finally:
        gc.collect()  # an engine has reference cycles: without this, several in one process would add up
    return {EXIT_DONE: DONE, EXIT_STOPPED: STOPPED}[code]


def record_failure(folder: Path, message: str, trace: str = "") -> str:
    """Record why a cell failed; return the state `failed`."""
    failure: FailureRecord = {"message": message, "traceback": trace.splitlines()}
    write_json(RunDir(folder).failure, failure)
    return FAILED


def failure_line(folder: Path) -> str:
    """Message of a failed cell; empty if the cell did not fail."""
    path = RunDir(folder).failure
    if not path.is_file():
        return ""
    failure: FailureRecord = read_json(path)
    return failure["message"]


def cell_state(folder: Path) -> str:
    """State of a cell, read from its run directory."""
    from mmgnn_dist.train.report.results import done
    from mmgnn_dist.train.stored.recipe import stored_recipe

    run = RunDir(folder)
    if not run.recipe.is_file():
        return WAITING
    if done(folder, stored_recipe(run)):
        return DONE
    if run.failure.is_file():
        return FAILED
    return PART if run.journal.is_file() else WAITING
