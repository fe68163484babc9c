"""Preparation in this process: what Ray's tasks do, without Ray's start."""

from __future__ import annotations

from collections.abc import Callable

from mmgnn_dist.data.prepare.chunks import ChunkRunner, Staging
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.errors import UserError


def run_here(plan: PreparePlan, staging: Staging, workers: int, report: Callable[..., None]) -> None:
    """In place of `ray_run.run_chunks`."""
    runner = ChunkRunner(plan, staging)
    for run in plan.runs():
        for part in runner.feed(run._asdict()):
            if error := runner.work(part)["error"]:
                raise UserError(error)
