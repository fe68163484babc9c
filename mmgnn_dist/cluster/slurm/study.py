"""A study as a Slurm array: one element for each cell, and a job that follows them and writes the report.

A cell is submitted like any other run (`submit.py`): its element is requeued, continues, or fails for good.
The job that follows writes the reason of a failure into the cell's run directory, where the report reads it.
"""

from __future__ import annotations

from pathlib import Path

from mmgnn_dist.cluster.slurm.status import last_words, own_fault
from mmgnn_dist.cluster.slurm.submit import (
    SubmitPlan,
    check_with_slurm,
    plan_batches,
    refuse_active,
    submit,
    usable_profile,
)
from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JobRecord, ReportJobRecord
from mmgnn_dist.study.grid import Cell, load_grid, save_grid
from mmgnn_dist.study.report.report import write_study_report
from mmgnn_dist.study.run import plan_study, unfinished
from mmgnn_dist.study.run_cell import record_failure


def plan_array(
    recipe: Recipe, profile: Path, folder: Path, concurrent: int | None, quiet: bool
) -> tuple[SubmitPlan, dict[Cell, Recipe]]:
    """Check a study before it is submitted; writes only missing token sidecars of the shard set.

    Args:
        recipe: recipe of the study.
        profile: file of the profile.
        folder: study directory.
        concurrent: number of elements that run at a time.
        quiet: show no progress.

    Returns:
        A plan of the cells that are not done, without runs if all are done; and all cells.

    Raises:
        UserError: if the study, training or Slurm would refuse a cell, or one is waiting or running as a job.
    """
    if concurrent is not None and concurrent < 1:
        raise UserError(f"--concurrent {concurrent}: give the number of cells at a time, 1 or more")
    checked_profile = usable_profile(profile)
    folder = folder.resolve()
    cells = plan_study(recipe, folder)
    runs = {cell.run(folder): cells[cell] for cell in unfinished(folder, cells)}
    if runs:
        refuse_active(folder, list(runs))
    batches, steps = plan_batches(runs, checked_profile, quiet)
    return SubmitPlan(
        folder, recipe.name, runs, checked_profile, batches, steps, StudyReport(folder), concurrent
    ), cells


def submit_array(
    plan: SubmitPlan, cells: dict[Cell, Recipe], recipe: Recipe, profile: Path, quiet: bool
) -> list[JobRecord | ReportJobRecord]:
    """Submit the cells of a plan and the report job.

    Args:
        plan: the plan of the cells that are not done.
        cells: all cells.
        recipe: recipe of the study.
        profile: file of the profile.
        quiet: show no progress.

    Returns:
        The content of each `slurm/job.json`.

    Raises:
        UserError: if Slurm refuses.
    """
    check_with_slurm(plan, profile)
    save_grid(plan.base, recipe, cells)
    for run in plan.runs:
        RunDir(run).failure.unlink(missing_ok=True)
    return submit(plan, profile, quiet)


class StudyReport:
    """Task that submitit pickles for the job that follows the cells; `base` is the study directory."""

    page, time = "report/report.html", "00:30:00"

    def __init__(self, base: Path) -> None:
        self.base = str(base)

    def __call__(self) -> str:
        """Record why cells failed, then write the report of the cells that are done; returns its page."""
        folder = Path(self.base)
        for cell in unfinished(folder, load_grid(folder)[1]):
            run = cell.run(folder)
            if RunDir(run).job.is_file():
                record_failure(run, own_fault(run) or last_words(run) or "its job left no message")
        return str(write_study_report(folder).page)
