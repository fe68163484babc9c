"""`mmgnn status` of a study whose cells are jobs: how many of its cells are done, wait, run or failed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypedDict

from mmgnn_dist.cluster.slurm import states as slurm
from mmgnn_dist.cluster.slurm.queries import NoAnswer
from mmgnn_dist.cluster.slurm.status import RunStatus
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ReportJobRecord
from mmgnn_dist.study.grid import CELLS, load_grid
from mmgnn_dist.study.run import states
from mmgnn_dist.study.run_cell import DONE


class ReportStatus(TypedDict):
    """The job that writes the report of a study."""

    job: str
    state: str
    page: str


class StudyStatus(TypedDict):
    """A submitted study: how many cells are in each state."""

    study: str
    cells: int
    states: dict[str, int]
    report: ReportStatus | None


def study_status(runs: list[Path], found: list[RunStatus]) -> list[StudyStatus]:
    """Return the status of the studies whose cells are among some runs.

    Args:
        runs: submitted runs.
        found: status of each run, as `status` returns it.

    Returns:
        For each study: its folder, number of cells, number of cells in each state (Slurm's state if a cell
        is a job and not done), and job, state and page of the report that follows.
    """
    run_states = {run.resolve(): run_status["state"] for run, run_status in zip(runs, found, strict=True)}
    studies = dict.fromkeys(run.parents[1] for run in run_states if (run.parents[1] / CELLS).is_file())
    statuses = []
    for folder in studies:
        cells = states(folder, load_grid(folder)[1])
        counts = Counter(
            cell_state if cell_state == DONE else run_states.get(cell.run(folder), cell_state).split()[0]
            for cell, cell_state in cells.items()
        )
        study: StudyStatus = {"study": str(folder), "cells": len(cells), "states": counts, "report": None}
        if RunDir(folder).report_job.is_file():
            record: ReportJobRecord = read_json(RunDir(folder).report_job)
            try:
                state = slurm.job_states([record["job"]])[record["job"]]
            except NoAnswer:
                state = slurm.UNKNOWN
            study["report"] = {"job": record["job"], "state": state, "page": record["report"]}
        statuses.append(study)
    return statuses


def print_studies(found: list[StudyStatus]) -> None:
    """Print one paragraph for each study."""
    for study in found:
        counts = ", ".join(f"{count} {state}" for state, count in study["states"].items())
        print(f"{study['study']}: {study['cells']} cells: {counts}")
        if report := study["report"]:
            print(f"  report {report['page']}: job {report['job']} {report['state']}")
