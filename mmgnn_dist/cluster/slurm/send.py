"""Sending of jobs to Slurm by submitit, each under a name that no other job has (`JobLink`).

`sbatch` may fail by a timeout although Slurm took the job. The job is then found again by its name, so that
it is neither lost nor sent twice. While a submission is at work its name stands in `slurm/submission.json`:
if `mmgnn submit` is killed there, the next one finds the job as well.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmgnn_dist.cluster.slurm.script import JobLink
from mmgnn_dist.cluster.slurm.states import jobs_named
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, write_json

# words of sbatch after which Slurm may have the job all the same
UNSURE = re.compile(r"timed? ?out|contact|communicat|connect|zero bytes|try again|unexpected", re.I)
LATE = 30.0  # seconds in which such a job appears in the queue


def new_link(name: str) -> JobLink:
    """Return the first job of a new submission; its name ends with a random word."""
    return JobLink(f"{name}-{secrets.token_hex(4)}")


def send(record: Path, options: dict[str, Any], tasks: list[Any], python: str) -> list[Any]:
    """Have submitit submit one job, or an array of several tasks; returns its jobs.

    Args:
        record: file that holds the names of jobs being sent; pickles and logs go to its folder.
        options: parameters of the executor, as `parameters` returns them.
        tasks: callable of each element.
        python: shell words that start Python on a node.

    Raises:
        NoAnswer: if sbatch failed, and Slurm does not say whether it has the job.
        UserError: if Slurm refuses.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    name = options["job_name"]
    executor = SlurmExecutor(folder=record.parent, python=python)
    executor.update_parameters(**options)
    names = [*(read_json(record)["name"].split(",") if record.is_file() else ()), name]
    write_json(record, {"name": ",".join(names)})  # as squeue --name takes them
    try:
        if len(tasks) == 1:
            return [executor.submit(tasks[0])]
        with executor.batch():
            jobs = [executor.submit(task) for task in tasks]
        return jobs
    except (FailedSubmissionError, FailedJobError) as error:
        words = " ".join(str(error).split())
        number = _taken(name, LATE if UNSURE.search(words) else 0.0)
        if number is None:
            if names == [name]:
                record.unlink()
            raise UserError(f"Slurm refused the job: {words}") from None
        return _adopt(number, executor, tasks)


def refuse_interrupted(record: Path) -> None:
    """Check that no job waits or runs that an interrupted submission has sent.

    Raises:
        NoAnswer: if there may be one, and Slurm does not say so.
        UserError: if there is one.
    """
    if not record.is_file():
        return
    if jobs := jobs_named(read_json(record)["name"]):
        shown = ", ".join(f"{number} already ({state})" for number, state in jobs.items())
        raise UserError(
            f"an interrupted submission has sent job {shown}: wait for its end, or "
            f"scancel {' '.join(jobs)}, then submit again"
        )
    record.unlink()


def _taken(name: str, patience: float, pause: Callable[[float], None] = time.sleep) -> str | None:
    """Return the number of the job of this name, which Slurm may show late; None if it has none."""
    end = time.monotonic() + patience
    while not (jobs := jobs_named(name)):
        if time.monotonic() >= end:
            return None
        pause(2)
    return next(iter(jobs))


def _adopt(number: str, executor: Any, tasks: list[Any]) -> list[Any]:
    """Give a job of Slurm what submitit gives a job whose number it knows: the pickle of each task."""
    from submitit import SlurmJob
    from submitit.core.utils import DelayedSubmission

    numbers = [number] if len(tasks) == 1 else [f"{number}_{index}" for index in range(len(tasks))]
    jobs = []
    for element, task in zip(numbers, tasks, strict=True):
        job: Any = SlurmJob(executor.folder, element, tasks=list(range(executor._num_tasks())))
        delayed = DelayedSubmission(task)
        delayed.set_timeout(executor.parameters["time"], executor.max_num_timeout)
        delayed.dump(job.paths.submitted_pickle)
        jobs.append(job)
    for leftover in executor.folder.glob("*.pkl"):  # pickles under the names that submitit gave up
        if re.fullmatch(r"[0-9a-f]{32}", leftover.stem):
            with suppress(OSError):
                leftover.unlink()
    return jobs
