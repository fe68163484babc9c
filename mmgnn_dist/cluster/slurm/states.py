"""States of jobs, asked of Slurm with patience.

A Slurm that does not answer is not an empty queue. Commands that fail or hang are tried again; after the
last attempt `NoAnswer` says so, and nobody takes a job for ended. `ENDED` is what Slurm's answer means when
neither its queue nor its accounting has the job any more.
"""

from __future__ import annotations

import re
import shutil
import time
from typing import cast

from mmgnn_dist.cluster.slurm.queries import NoAnswer, ask, reason_of
from mmgnn_dist.errors import UserError
from mmgnn_dist.run_records import JobRecord, ReportJobRecord

PAUSES = (1.0, 4.0, 10.0)  # seconds between two attempts
UNKNOWN = "UNKNOWN"  # Slurm gave no answer
ENDED = "ENDED"  # Slurm answers and does not have the job any more
FAULTS = ("FAILED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED")
OVER = ("COMPLETED", "CANCELLED", "REVOKED", ENDED, *FAULTS)
NO_SUCH_JOB = "Invalid job id specified"  # an answer, though the command fails


def active(state: str) -> bool:
    """Return whether a job in this state waits, runs or may run again; true if its state is unknown."""
    return state.split(maxsplit=1)[0] not in OVER


def answer(*words: str) -> str:
    """Run one of Slurm's queries until it succeeds; returns its output, "" for a job that is not there.

    Raises:
        NoAnswer: every attempt failed.
        UserError: the program is missing.
    """
    reason = ""
    for pause in (*PAUSES, 0.0):
        try:
            result = ask(*words)
        except NoAnswer as error:
            reason = str(error)
        else:
            if result.returncode == 0:
                return result.stdout
            if NO_SUCH_JOB in result.stderr:
                return ""
            reason = reason_of(result.stderr)
        time.sleep(pause)
    raise NoAnswer(
        f"Slurm does not answer ({words[0]}: {reason}; tried {len(PAUSES) + 1} times), so whether jobs wait "
        "or run is not known: try again later"
    )


def job_states(jobs: list[str]) -> dict[str, str]:
    """Return the state of each job (`12`, or `12_0` of an array): from the queue, accounting, or ENDED.

    Raises:
        NoAnswer: Slurm does not answer.
    """
    states = dict.fromkeys(jobs, ENDED)
    if not states:
        return states
    # one query for all jobs, or for a whole array, which may have a thousand elements
    for line in answer("squeue", "-h", "-r", "-j", ",".join(states), "-o", "%i %T %r").splitlines():
        job, state, *reason = line.split()
        if job in states and active(state):
            states[job] = f"PENDING ({' '.join(reason)})" if state == "PENDING" and reason else state
    for array in dict.fromkeys(job.split("_")[0] for job, state in states.items() if state == ENDED):
        for line in answer("scontrol", "-o", "show", "job", array).splitlines():
            fields = dict(re.findall(r"(\w+)=(\S*)", line))
            element = (fields.get("ArrayJobId"), fields.get("ArrayTaskId"))
            job = "_".join(map(str, element)) if all(element) else fields.get("JobId", "")
            if states.get(job) == ENDED:
                states[job] = fields["JobState"]
    return states | _accounted([job for job, state in states.items() if state == ENDED])


def _accounted(jobs: list[str]) -> dict[str, str]:
    """Return the states that accounting has; the queue has answered, so a silent data base changes little."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    try:
        result = ask("sacct", "-n", "-X", "-P", "-j", ",".join(jobs), "-o", "JobID,State")
    except NoAnswer:
        return {}
    rows = [line.partition("|") for line in result.stdout.splitlines()]
    return {job: state.split()[0] for job, _, state in rows if job in jobs and state}


def killed_by(job: str) -> str | None:
    """Return which signal killed the batch script of a job, in words; None: none, or Slurm does not say."""
    accounted = ("sacct", "-n", "-X", "-P", "-j", job, "-o", "ExitCode")
    for words in (("scontrol", "-o", "show", "job", job), accounted):
        try:
            shown = ask(*words).stdout
        except UserError:
            continue
        if found := re.search(r"(?:^|\bExitCode=)\d+:(\d+)", shown):
            return f"signal {found[1]} killed its batch script" if found[1] != "0" else None
    return None


def jobs_of(record: JobRecord | ReportJobRecord) -> list[str]:
    """Return all jobs of a record, in the order in which they follow each other."""
    return [record["job"], *cast("list[str]", record.get("successors", []))]


def jobs_named(name: str) -> dict[str, str]:
    """Return the state of each job that has this name (or one of several, with commas) and waits or runs.

    Raises:
        NoAnswer: Slurm does not answer.
    """
    lines = answer("squeue", "-h", "--me", f"--name={name}", "-o", "%A %T").splitlines()
    return dict(line.split() for line in lines if line)
