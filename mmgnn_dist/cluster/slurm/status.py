"""`mmgnn status`, `logs` and `cancel`: the state of a run from Slurm and from its journal."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from mmgnn_dist.cluster.slurm import states as slurm
from mmgnn_dist.cluster.slurm.queries import NoAnswer, must
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JobRecord, JournalLine
from mmgnn_dist.train.tracking.busy import slow_rank
from mmgnn_dist.train.tracking.goodput import Goodput, goodput
from mmgnn_dist.train.tracking.journal import read_journal

RECENT = 50  # steps over which the rate is measured
LOST = re.compile("DistNetworkError|DistStoreError|connection (was )?(likely )?(closed|reset|refused)", re.I)
NO_CAUSE = ("submitit INFO", "submitit WARNING", "srun: Force Terminated", "srun: launch/slurm")  # last lines


class RunStatus(TypedDict):
    """State and progress of a submitted run, as `status` returns it."""

    run: str
    job: str
    state: str
    done: bool
    step: int
    steps: int
    loss: float | None
    rate: float | None
    seconds_left: float | None
    restarts: int
    successors: int  # jobs that wait for the end of this one
    error: str | None
    slow: str | None  # a rank that the others wait for
    goodput: Goodput | None  # None before the first step, and of a run of an earlier version


def find_runs(given: list[Path], below: Path) -> list[Path]:
    """Find the submitted runs in and below the given folders, or below `below` if none are given.

    Raises:
        UserError: if a given folder holds no submitted run.
    """
    runs: list[Path] = []
    for folder in given or [below]:
        submitted = submitted_below(folder)
        if not submitted and given:
            raise UserError(
                f"no submitted run in {folder}: give a run directory of 'mmgnn submit', or what a job of "
                "slurm/ray.sbatch makes"
            )
        runs += submitted
    return list(dict.fromkeys(runs))


def submitted_below(folder: Path) -> list[Path]:
    """Return the submitted runs in and below a folder."""
    return sorted(path.parent.parent for path in Path(folder).rglob(str(RunDir(Path()).job)))


def status(runs: list[Path]) -> list[RunStatus]:
    """Return state and progress of runs.

    Returns:
        For each run: job, Slurm's state, whether it is done, steps done and in all, molecules/s, seconds
        left, last loss, restarts, error (of a run that ended by its own fault, or could not start). The state
        is UNKNOWN where Slurm does not answer; the rest comes from the run directory.
    """
    jobs: dict[Path, JobRecord] = {run: read_json(RunDir(run).job) for run in runs}
    numbers = [job for record in jobs.values() for job in slurm.jobs_of(record)]
    try:
        states = slurm.job_states(numbers)
    except NoAnswer:
        states = dict.fromkeys(numbers, slurm.UNKNOWN)
    return [_one(run, record, states) for run, record in jobs.items()]


def current_job(run: Path, record: JobRecord, states: dict[str, str]) -> str:
    """Return that job of a run which waits or runs, the first of several; else the last one that started."""
    active = [job for job in slurm.jobs_of(record) if slurm.active(states[job])]
    if active and states[active[0]] != slurm.UNKNOWN:
        return active[0]
    return started[-1] if (started := _started(run, record)) else record["job"]


def _started(run: Path, record: JobRecord) -> list[str]:
    """Return the job of each start of a submission; jobs of earlier versions did not note them."""
    path = RunDir(run).starts(record.get("submission", ""))
    return [line.split()[1] for line in path.read_text().splitlines()] if path.is_file() else []


def _one(run: Path, record: JobRecord, states: dict[str, str]) -> RunStatus:
    job = current_job(run, record, states)
    state = states[job]
    following = slurm.jobs_of(record)[slurm.jobs_of(record).index(job) + 1 :]
    journal = read_journal(RunDir(run).journal)
    steps = [line for line in journal if line["kind"] == "train"]
    start: JournalLine = {"kind": "train", "step": 0, "loss": math.nan, "seconds": 0.0, "molecules": 0}
    last = steps[-1] if steps else start
    first = steps[-RECENT] if len(steps) >= RECENT else start
    spent = last["seconds"] - first["seconds"]
    done = RunDir(run).metrics.is_file()
    run_status: RunStatus = {
        "run": str(run),
        "job": job,
        "state": state,
        "done": done,
        "step": last["step"],
        "steps": record["steps"],
        "loss": last["loss"] if steps else None,
        "rate": None,
        "seconds_left": None,
        "restarts": restarts(run),
        "successors": sum(slurm.active(states[other]) for other in following),
        "error": None,
        "slow": None if done else slow_rank(steps),
        "goodput": goodput(journal, RunDir(run).journal.stat().st_mtime) if journal else None,
    }
    if not done:
        run_status["error"] = own_fault(run)
        if run_status["error"] is None and not slurm.active(state):
            run_status["error"] = (slurm.killed_by(job) if state == "FAILED" else None) or last_words(run)
    if spent > 0:
        run_status["rate"] = (last["molecules"] - first["molecules"]) / spent
        seconds_per_step = spent / (last["step"] - first["step"])
        run_status["seconds_left"] = 0.0 if done else (record["steps"] - last["step"]) * seconds_per_step
    return run_status


def attempts(run: Path) -> list[Path]:
    """Return the folders with the notes of the ranks, one for each start of the run, the newest last."""
    folders = [path for path in RunDir(run).slurm.glob("*.*") if path.is_dir() and _number(path)]
    return sorted(folders, key=_number)


def _number(path: Path) -> tuple[int, ...]:
    parts = path.name.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def restarts(run: Path) -> int:
    """Return how often the newest job of a run went back to the queue, or was followed by another one."""
    record: JobRecord = read_json(RunDir(run).job)
    if record.get("successors"):
        return max(0, len(_started(run, record)) - 1)
    folders = attempts(run)
    return _number(folders[-1])[1] if folders else 0


def own_fault(run: Path) -> str | None:
    """Return the last line of the first rank that failed in the newest attempt, if one failed by itself.

    A rank that lost its connection to another one is named only if no rank has a fault of its own.
    """
    folders = attempts(run)
    if not folders or any(list(folders[-1].glob(f"rank_*.{end}")) for end in ("killed", "hung")):
        return None
    notes = sorted(folders[-1].glob("rank_*.failed"), key=lambda path: path.stat().st_mtime_ns)
    found = {}
    for note in notes:
        lines = [line for line in note.read_text().splitlines() if line.strip()]
        found[note.stem] = lines[-1] if lines else last_words(run, note.stem.removeprefix("rank_"))
    if not found:
        return None
    rank = next((rank for rank, words in found.items() if not LOST.search(words)), notes[0].stem)
    return f"{rank.replace('_', ' ')}: {found[rank]}"


def last_words(run: Path, rank: str = "0") -> str:
    """Return the last line of a rank's log; that of rank 0 says why none started, or why restarts stopped."""
    record: JobRecord = read_json(RunDir(run).job)
    started = _started(run, record)
    return last_line(_log(record, started[-1] if started else record["job"], int(rank)))


def last_line(path: Path) -> str:
    """Return the last line of a log that tells something, or in words that there is none."""
    if not path.is_file():
        return f"there is no {path}: its node could not write it, or the job ended before it started"
    lines = [line.strip() for line in path.read_text(errors="replace").split("\n")]
    said = [line for line in lines if line and not line.startswith(NO_CAUSE)]
    return said[-1] if said else f"it said nothing in {path}"


def _log(record: JobRecord, job: str, rank: int) -> Path:
    """Return the path of a rank's log in a job of a run."""
    return Path(record["log"]).with_name(f"{job}_{rank}_log.out")


def print_status(found: list[RunStatus]) -> None:
    """Print one paragraph for each run."""
    if not found:
        print("no submitted runs here: mmgnn submit RECIPE --profile slurm/NAME.yaml")
    for run_status in found:
        state = "done" if run_status["done"] else run_status["state"]
        line = f"{run_status['run']}: job {run_status['job']} {state}, "
        line += f"step {run_status['step']}/{run_status['steps']}"
        if run_status["rate"] is not None:
            line += f", {run_status['rate']:.0f} molecules/s"
        if run_status["seconds_left"] and not run_status["done"]:
            line += f", {span(run_status['seconds_left'])} left"
        if run_status["loss"] is not None:
            line += f", loss {run_status['loss']:.4g}"
        line += f", {run_status['restarts']} restarts"
        if run_status["successors"]:
            line += f", {run_status['successors']} jobs wait to follow"
        print(line)
        if run_status["error"]:
            print(f"  {run_status['error']}")
        if share := run_status["goodput"]:
            print(
                f"  goodput {share['training']:.1%}; lost: {share['repeated']:.1%} to repeated steps, "
                f"{share['waiting']:.1%} to waiting and restarts, {share['between']:.1%} to checkpoints and "
                "validations"
            )
        if run_status["slow"]:
            print(f"  {run_status['slow']}: mmgnn doctor on its node says why")


def span(seconds: float) -> str:
    """Format seconds as s, min or h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def log_end(run: Path, rank: int, lines: int) -> tuple[Path, str]:
    """Read the end of a rank's log.

    Args:
        run: run directory of a submitted run.
        rank: the rank whose log is read.
        lines: number of last lines to read.

    Returns:
        The file of the log, and the lines with their line ends.

    Raises:
        UserError: if there is no such log yet.
    """
    record: JobRecord = read_json(RunDir(run).job)
    job = (_started(run, record) or [record["job"]])[-1]
    path = _log(record, job, rank)
    if not path.is_file():
        state = slurm.job_states([job])[job]
        raise UserError(f"no log of rank {rank} yet, job {job} is {state}: it will be {path}")
    return path, log_tail(path, lines)


def log_tail(path: Path, lines: int) -> str:
    """Return the last lines of a log, with their line ends."""
    with path.open(encoding="utf-8", errors="replace") as log:
        return "".join(deque(log, maxlen=lines))


def follow_run(run: Path, path: Path) -> None:
    """Print the lines that are added to a log of a run until its job ends or the user presses Ctrl-C."""
    record: JobRecord = read_json(RunDir(run).job)

    def goes_on() -> bool:
        return any(slurm.active(state) for state in slurm.job_states(slurm.jobs_of(record)).values())

    follow_log(path, goes_on, lambda path: _newer_log(run, record, path))


def follow_log(
    path: Path, goes_on: Callable[[], bool], newer_log: Callable[[Path], Path | None] = lambda path: None
) -> None:
    """Print the lines that are added to a log.

    Args:
        path: the log.
        goes_on: whether a job may still write to it; raises NoAnswer if Slurm does not say so.
        newer_log: the log that has followed this one, None if there is none yet.
    """
    going = True
    while going:
        with subprocess.Popen(["tail", "-n", "0", "-F", str(path)]) as tail:
            try:
                while (going := _may_go_on(goes_on)) and (newer := newer_log(path)) is None:
                    time.sleep(3)
            finally:
                tail.terminate()
        if going and newer is not None:
            path = newer
            print(path.read_text(encoding="utf-8", errors="replace"), end="", flush=True)


def _newer_log(run: Path, record: JobRecord, path: Path) -> Path | None:
    """Return the log of the same rank in the job that has followed, None if there is none yet."""
    started = _started(run, record)
    rank = int(path.name.removesuffix("_log.out").rpartition("_")[2])
    newer = _log(record, started[-1], rank) if started else path
    return newer if newer != path and newer.is_file() else None


def _may_go_on(goes_on: Callable[[], bool]) -> bool:
    """Return whether jobs may still write to their logs: one is active, or Slurm does not answer."""
    try:
        return goes_on()
    except NoAnswer as error:
        print(f"mmgnn: {error}; still following the log", file=sys.stderr, flush=True)
        return True


def cancel(runs: list[Path]) -> list[str]:
    """Cancel the active jobs of runs, and an array's report job if all its runs are given; returns them.

    Raises:
        NoAnswer: Slurm does not answer, so jobs may still wait or run.
    """
    jobs = [job for run in runs for job in slurm.jobs_of(read_json(RunDir(run).job))]
    for base in dict.fromkeys(above for run in runs for above in run.parents):
        if RunDir(base).report_job.is_file() and set(find_runs([base], base)) <= set(runs):
            jobs.append(read_json(RunDir(base).report_job)["job"])
    states = slurm.job_states(jobs)
    active = [job for job in jobs if slurm.active(states[job])]
    for job in reversed(active):  # those that follow first: the end of a job would start them
        must("scancel", job)
    return active
