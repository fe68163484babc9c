"""`mmgnn study --profile FILE`: submit the cells of a study that are not done as a Slurm array."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmgnn_dist.cli.cluster import print_dry_run, read_recipe_for_slurm, told_successors
from mmgnn_dist.cli.common import print_result
from mmgnn_dist.errors import EXIT_DONE


def submit_cells(arguments: argparse.Namespace) -> int:
    """Submit the cells and the job that writes the report, and print the jobs.

    Args:
        arguments: parsed arguments of the verb.

    Returns:
        The exit code.

    Raises:
        UserError: if the study, training or Slurm would refuse a cell.
    """
    recipe = read_recipe_for_slurm(arguments)
    from mmgnn_dist.cluster.slurm.study import plan_array, submit_array
    from mmgnn_dist.cluster.slurm.submit import with_stage

    folder = arguments.dir or Path("runs") / recipe.name
    plan, cells = plan_array(recipe, arguments.profile, folder, arguments.concurrent, arguments.json)
    plan = with_stage(plan) if arguments.stage else plan
    jobs: list[Any] = []  # records of the runs, then that of the report; their keys differ
    if plan.runs:
        if arguments.dry_run:
            return print_dry_run(plan, arguments.profile, arguments.json)
        jobs = submit_array(plan, cells, recipe, arguments.profile, arguments.json)
    lines = [f"all {len(cells)} cells are done, nothing is submitted; mmgnn report {folder}"]
    if jobs:
        *runs, report = jobs
        done = f", {len(cells) - len(runs)} are done already" if len(runs) < len(cells) else ""
        lines = [
            *(f"job {job['job']}: {Path(job['run']).name}" for job in runs),
            f"{len(runs)} of {len(cells)} cells{done}; logs {plan.base}/slurm/JOB_0_log.out",
            *([told_successors(runs)] if plan.successors else []),
            f"job {report['job']}: report {report['report']}, after all others",
            f"follow: mmgnn status {folder}    mmgnn logs {runs[0]['run']} --follow",
            f"cancel: mmgnn cancel {folder}    continue: the same command",
        ]
    print_result(arguments.json, {"study": folder, "cells": len(cells), "jobs": jobs}, lines)
    return EXIT_DONE
