"""A Slurm that does not answer, or answers late: no job is taken for ended, lost, or sent twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import PROFILE, ask

from mmgnn_dist.cli.main import main
from mmgnn_dist.cluster.slurm import states
from mmgnn_dist.files import lock_file

pytestmark = pytest.mark.slurm
MUTE = 'echo "{}: error: Unable to contact slurm controller (connect failure)" >&2; exit 1'
LATE = '{} "$@" >&2; echo "sbatch: error: Batch job submission failed: Socket timed out" >&2; exit 1'


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """Put a script in the place of one of Slurm's programs."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(states, "PAUSES", (0.01, 0.01))

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script.format(shutil.which(name))}\n")
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def waiting(cluster, tmp_path) -> Iterator[Path]:
    """A run directory; its jobs wait, as their partition is down."""
    ask("scontrol", "update", "partitionname=main", "state=down")
    try:
        yield tmp_path / "run"
    finally:
        ask("scancel", "--partition=main")
        ask("scontrol", "update", "partitionname=main", "state=up")


def submit(recipe: Path, run: Path, *words: str) -> int:
    return main(["submit", str(recipe), "--profile", str(PROFILE), "--run", str(run), "--json", *words])


def queue() -> list[str]:
    return ask("squeue", "-h", "-o", "%A").split()


def test_a_mute_slurm_is_no_empty_queue(recipe, waiting, capsys, stand_in):
    assert submit(recipe, waiting) == 0
    (job,) = queue()
    record = (waiting / "slurm" / "job.json").read_text()
    for name in ("squeue", "scontrol", "sacct"):
        stand_in(name, MUTE)
    capsys.readouterr()
    for words in (["cancel"], ["status", "--json"], ["logs"]):
        assert main([*words[:1], str(waiting), *words[1:]]) == 2
        said = capsys.readouterr()
        assert "Slurm does not answer" in said.err and said.err.count("\n") == 1, words
        if words[0] == "status":
            assert json.loads(said.out)["runs"][0]["state"] == "UNKNOWN"
    assert submit(recipe, waiting) == 2
    assert "Slurm" in capsys.readouterr().err
    assert (waiting / "slurm" / "job.json").read_text() == record
    stand_in("squeue", 'exec {} "$@"'.replace("{}", "/usr/bin/squeue"))
    assert queue() == [job]


def test_a_job_that_slurm_took_though_sbatch_failed_is_found(recipe, waiting, capsys, stand_in):
    stand_in("sbatch", 'case "$*" in *--test-only*) exec {0} "$@";; esac; ' + LATE.replace("{}", "{0}"))
    assert submit(recipe, waiting) == 0, capsys.readouterr().err
    (told,) = json.loads(capsys.readouterr().out)["jobs"]
    assert queue() == [told["job"]]
    assert (waiting / "slurm" / f"{told['job']}_submitted.pkl").is_file()
    # a submission that was killed before it could write down the job
    name = ask("squeue", "-h", "-o", "%j").strip()
    (waiting / "slurm" / "job.json").unlink()
    (waiting / "slurm" / "submission.json").write_text(json.dumps({"name": name}))
    assert submit(recipe, waiting) == 2
    assert f"has sent job {told['job']} already" in capsys.readouterr().err
    assert queue() == [told["job"]]


def test_of_two_submissions_at_once_one_wins(recipe, waiting, capsys):
    with lock_file(waiting / "slurm" / "submit.lock"):
        assert submit(recipe, waiting) == 2
    assert "another 'mmgnn submit' is at work" in capsys.readouterr().err
    assert queue() == []
