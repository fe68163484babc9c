"""What the tests of jobs share: submit, wait, read what the ranks wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from command_line import ids_of, journal, metrics, mmgnn
from read_wandb import read

PROFILE = Path(__file__).parents[2] / "slurm" / "dev.yaml"
LIMIT = 600.0  # seconds that a job may take on a busy machine


def ask(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def changed(to: Path, profile: Path = PROFILE, **keys: object) -> Path:
    """A copy of a profile with other values."""
    path = to / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | keys))
    return path


def submit_all(recipe: Path, run: Path, *words: object, profile: Path = PROFILE) -> list[dict]:
    done = mmgnn("submit", recipe, "--profile", profile, "--run", run, "--json", *words)
    found: list[dict] = json.loads(done.stdout)["jobs"]
    return found


def submit(recipe: Path, run: Path, *words: object, profile: Path = PROFILE) -> str:
    """Submit one run; returns its job."""
    (job,) = submit_all(recipe, run, *words, profile=profile)
    return str(job["job"])


def status(run: Path) -> dict:
    found: dict = json.loads(mmgnn("status", run, "--json").stdout)["runs"][0]
    return found


def log(run: Path) -> str:
    return "\n".join(path.read_text() for path in sorted((run / "slurm").glob("*_log.out")))


def wait(ready: Callable[[], object], what: str, run: Path, limit: float = LIMIT) -> None:
    end = time.monotonic() + limit
    while not ready():
        assert time.monotonic() < end, f"{what} did not come\n{log(run)[-5000:]}\n{ask('squeue')}"
        time.sleep(0.05)


def reach(run: Path, step: int, starts: int = 1) -> None:
    """Wait until a run stands at a step in its Nth start."""

    def there() -> bool:
        begun = len(journal(run, "start")) + len(journal(run, "resume"))
        return begun >= starts and any(line["step"] >= step for line in journal(run))

    wait(there, f"step {step} of start {starts}", run)


def state(job: str) -> str:
    shown = subprocess.run(
        ["scontrol", "-o", "show", "job", job], check=False, capture_output=True, text=True
    ).stdout
    return shown.partition("JobState=")[2].split(" ")[0]


def finish(run: Path, job: str, ends: tuple[str, ...] = ("COMPLETED",)) -> None:
    """Wait for the job's end and see that it is the right one."""
    over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
    wait(lambda: state(job) in over, "the job's end", run)
    assert state(job) in ends, f"{state(job)}\n{log(run)[-5000:]}"


def nodes(run: Path, job: str, start: int) -> set[str]:
    """The nodes of the Nth start, from 0, of a job of two ranks."""
    notes = run / "slurm" / f"{job}.{start}"
    return {(notes / f"rank_{rank}.started").read_text() for rank in (0, 1)}


def tasks(run: Path, ranks: int = 2) -> list[int]:
    """The training processes of a run."""
    said = ask("pgrep", "-f", f"mmgnn_dist.train.run {run}$").split()
    assert len(said) == ranks, said
    return [int(pid) for pid in said]


@contextmanager
def held(run: Path, ranks: int = 2) -> Iterator[None]:
    """The training processes stand still meanwhile, so that a run cannot end before what is to disturb it."""
    found = tasks(run, ranks)
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def kill_task(run: Path) -> None:
    """SIGKILL to one training process of a run."""
    os.kill(tasks(run)[1], signal.SIGKILL)


def same_end(run: Path, other: Path) -> None:
    """See that two runs ended with the same bits, by the same losses, on the same molecules."""
    for name in ("weights", "averaged_weights", "metrics"):
        assert metrics(run)[name] == metrics(other)[name], name
    losses = [[(line["step"], line["loss"]) for line in journal(r)] for r in (run, other)]
    assert losses[0] == losses[1]
    assert ids_of(run, 2) == ids_of(other, 2)


def wandb_groups(runs: Iterable[Path]) -> set[str]:
    """The groups in which W&B shows the segments of runs."""
    segments = [segment for run in runs for segment in run.glob("wandb/offline-run-*")]
    assert segments
    return {read(segment)["run"].run_group for segment in segments}


def wandb_ids(run: Path) -> list[str]:
    """The W&B id of each offline segment."""
    return [path.name.rsplit("-", 1)[1] for path in run.glob("wandb/offline-run-*")]
