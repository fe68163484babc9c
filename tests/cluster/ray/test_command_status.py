"""What `mmgnn status`, `logs` and `cancel` say of commands in a job; Slurm is a stand-in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.cluster.ray.command import noted_command
from mmgnn_dist.cluster.slurm import states
from mmgnn_dist.files import write_json, write_sealed

MOLECULE = "3\nenergy=-76.4\nO 0 0 0\nH 0 0 0.96\nH 0.93 0 -0.24\n"


@pytest.fixture
def job(tmp_path, monkeypatch) -> Callable[..., None]:
    """This process is job 7, whose state the test sets; what is cancelled is written down."""
    programs = tmp_path / "programs"
    programs.mkdir()
    log = tmp_path / "7.log"
    scripts = {
        "squeue": f"cat {tmp_path}/queue",
        "scontrol": f"cat {tmp_path}/shown",
        "sacct": "true",
        "scancel": f'echo "$@" >>{tmp_path}/cancelled',
        "sbatch": "exit 1",
    }
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    monkeypatch.setattr(states, "PAUSES", ())
    monkeypatch.chdir(tmp_path)
    log.write_text("prepare 10/20 starting Ray\nslurmstepd: error: killed\n")

    def put(state: str, code: str = "1:0") -> None:
        running = state in ("RUNNING", "PENDING")
        (tmp_path / "queue").write_text(f"7 {state} None\n" if running else "")
        (tmp_path / "shown").write_text(
            f"JobId=7 JobState={state} ExitCode={code} StdErr={log} StdOut={log}\n"
        )

    put("RUNNING")
    return put


def told(capsys, *words: str) -> dict:
    capsys.readouterr()
    assert main(["status", *words, "--json"]) == 0
    found: dict = json.loads(capsys.readouterr().out)
    return found


def test_a_preparation_is_known_while_it_works_and_when_it_was_killed(job, tmp_path, capsys):
    to = tmp_path / "shards" / "mine"
    records = tmp_path / "shards" / "mine.partial" / "records"
    write_sealed(records / "00000.json", {"in": 10})
    (records / "00001.json").write_text("damaged")
    with noted_command(to, "preparation"):
        (status,) = told(capsys, str(to))["commands"]
        shutil.copy(tmp_path / "shards" / "mine.job.json", tmp_path / "kept")
        assert main(["cancel", str(to)]) == 0
    assert (status["job"], status["state"], status["error"]) == ("7", "RUNNING", None)
    assert status["kind"] == "preparation" and status["restarts"] == 2
    assert status["progress"] == {"molecules": 10} and not status["done"]
    assert (tmp_path / "cancelled").read_text() == "7\n"
    assert not (tmp_path / "shards" / "mine.job.json").exists()
    shutil.move(tmp_path / "kept", tmp_path / "shards" / "mine.job.json")  # as it is after SIGKILL
    job("NODE_FAIL")
    (status,) = told(capsys)["commands"]
    assert status["state"] == "NODE_FAIL" and status["error"] == "slurmstepd: error: killed"
    job("FAILED", "0:9")
    assert told(capsys)["commands"][0]["error"] == "signal 9 killed its batch script"
    assert main(["logs", str(to), "--lines", "1"]) == 0
    assert capsys.readouterr().out == "slurmstepd: error: killed\n"
    assert main(["cancel", str(to)]) == 0
    assert "nothing to cancel" in capsys.readouterr().out


def test_why_a_command_stopped_is_told_until_its_output_is_complete(job, tmp_path, capsys):
    source, to = tmp_path / "water.xyz", tmp_path / "water"
    source.write_text("3\nenergy=-76.4\nO 0 0\n")
    words = ["data", "prepare", str(source), "--to", str(to), "data.units.energy=Hartree"]
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    job("FAILED")
    (status,) = told(capsys, str(to))["commands"]
    assert status["state"] == "FAILED" and status["error"] and status["error"] in said
    source.write_text(MOLECULE)
    assert main(words) == 0
    assert not (tmp_path / "water.job.json").exists()
    (status,) = told(capsys, str(to))["commands"]
    assert status["done"] and status["job"] is None and status["progress"] == {"molecules": 1}
    assert main(["status", str(to)]) == 0
    assert f"{to}: preparation, complete, 1 molecules" in capsys.readouterr().out


def test_a_second_command_on_the_same_output_leaves_the_note_of_the_first(job, tmp_path, capsys):
    with noted_command(tmp_path / "sweep", "sweep"):
        before = (tmp_path / "sweep.job.json").read_text()
        with pytest.raises(ValueError, match="in use"), noted_command(tmp_path / "sweep", "sweep"):
            raise ValueError("in use")
        assert (tmp_path / "sweep.job.json").read_text() == before != ""
        for number, state in enumerate(("done", "open", "open")):
            write_json(tmp_path / "sweep" / "trials" / f"{number:03d}" / "trial.json", {"state": state})
        (status,) = told(capsys, str(tmp_path))["commands"]
        assert status["progress"] == {"done": 1, "open": 2}


def test_outside_of_a_job_nothing_is_noted(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with noted_command(tmp_path / "sweep", "sweep"):
        assert not list(tmp_path.iterdir())
