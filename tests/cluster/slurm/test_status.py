"""What `mmgnn status` says of a job that ended without its result, from the files of a run alone."""

from __future__ import annotations

import pytest

from mmgnn_dist.cluster.slurm import states, status
from mmgnn_dist.files import write_json
from mmgnn_dist.run_dir import RunDir

CANCELLED = "slurmstepd-node1: error: *** JOB 7 ON node1 CANCELLED ***"
NOISE = "submitit WARNING (2026) - Bypassing signal SIGCONT\nsrun: Force Terminated StepId=7.0\n"


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (None, "could not write it"),
        (f"{CANCELLED}\n{NOISE}", CANCELLED),
        (NOISE, "it said nothing in"),
    ],
)
@pytest.mark.parametrize("state", ["COMPLETED", "CANCELLED", "FAILED", states.ENDED])
def test_every_job_that_ended_has_a_cause(tmp_path, monkeypatch, log, says, state):
    run = tmp_path / "run"
    write_json(RunDir(run).job, {"job": "7", "steps": 3, "log": str(tmp_path / "7_%t_log.out")})
    if log:
        (tmp_path / "7_0_log.out").write_text(log)
    monkeypatch.setattr(states, "job_states", lambda jobs: dict.fromkeys(jobs, state))
    (found,) = status.status([run])
    assert says in found["error"] and not found["done"]
    monkeypatch.setattr(states, "job_states", lambda jobs: dict.fromkeys(jobs, "RUNNING"))
    assert status.status([run])[0]["error"] is None


def test_a_rank_that_lost_another_one_is_not_the_cause(tmp_path):
    """Rank 1 notes it first; rank 0 found the disk full, so its note is empty, and the log has the words."""
    run = tmp_path / "run"
    write_json(RunDir(run).job, {"job": "7", "steps": 3, "log": str(tmp_path / "7_%t_log.out")})
    notes = RunDir(run).attempt("7", "0")
    notes.mkdir()
    (notes / "rank_1.failed").write_text("torch.distributed.DistNetworkError: Failed to recv, got 0 bytes.\n")
    assert str(status.own_fault(run)).startswith("rank 1: torch.distributed.DistNetworkError")
    (notes / "rank_0.failed").touch()
    (tmp_path / "7_0_log.out").write_text("mmgnn: step_5 cannot be written (No space left on device)\n")
    assert status.own_fault(run) == "rank 0: mmgnn: step_5 cannot be written (No space left on device)"
