"""Jobs on a real Slurm of three nodes: what two nodes train, what disturbs a run and what it makes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import journal, metrics, mmgnn
from jobs import PROFILE, ask, finish, log, reach, state, status, submit, submit_all, wait, wandb_ids
from test_resume import ids_of

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    """The run of two ranks on this machine, without Slurm."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    mmgnn("train", recipe, "--run", run, "--nproc", 2)
    return run


def same_end(run, other):
    assert metrics(run)["weights"] == metrics(other)["weights"]
    assert metrics(run)["averaged_weights"] == metrics(other)["averaged_weights"]
    assert metrics(run)["metrics"] == metrics(other)["metrics"]
    losses = [[(line["step"], line["loss"]) for line in journal(r)] for r in (run, other)]
    assert losses[0] == losses[1]


def kill_task(run: Path) -> None:
    """SIGKILL to one training process of a run."""
    found = subprocess.run(
        ["pgrep", "-f", f"mmgnn_dist.train.run {run}$"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert len(found) == 2
    os.kill(int(found[1]), signal.SIGKILL)


def test_two_nodes_train_as_one_machine_does_and_soon(cluster, recipe, undisturbed, tmp_path):
    run = tmp_path / "run"
    started = time.monotonic()
    job = submit(recipe, run)
    reach(run, 1)
    print(f"from submit to the first step {time.monotonic() - started:.1f} s")
    finish(run, job)
    assert ids_of(run, 2) == ids_of(undisturbed, 2)
    same_end(run, undisturbed)
    # who asks Slurm names the nodes: two ranks on two of them
    notes = run / "slurm" / f"{job}.0"
    assert {(notes / f"rank_{rank}.started").read_text() for rank in (0, 1)} == {"node1", "node2"}
    found = status(run)
    assert found["done"] and found["restarts"] == 0 and found["step"] == found["steps"] == 120
    assert "COMPLETED" in ask("sacct", "-n", "-X", "-j", job, "-o", "State")


def test_signal_kill_and_requeue_change_nothing(cluster, recipe, undisturbed, tmp_path):
    """One run meets scancel --signal, kill -9 of a task and scontrol requeue, and ends as undisturbed."""
    run = tmp_path / "run"
    job = submit(recipe, run)
    reach(run, 10)
    ask("scancel", "--signal=USR2", job)
    reach(run, 50, starts=2)
    kill_task(run)
    reach(run, 75, starts=3)
    ask("scontrol", "requeue", job)
    finish(run, job)
    same_end(run, undisturbed)
    resumed = [line["step"] for line in journal(run, "resume")]
    # at the signal a checkpoint of its own; from then on those of every 20 steps
    assert len(resumed) == 3 and resumed[0] >= 10 and resumed[1] >= 40 and resumed[2] >= 60
    assert status(run)["restarts"] == 3
    ids = wandb_ids(run)
    assert len(ids) == 4 and set(ids) == {(run / "wandb" / "id").read_text()}


def test_a_fault_of_its_own_is_not_repeated(cluster, recipe, tmp_path):
    """A shard that is damaged after submission: the run fails once, and status tells why."""
    shards = tmp_path / "shards"
    source = recipe.read_text().split("shards: ")[1].split("}")[0]
    shutil.copytree(source, shards)
    run = tmp_path / "run"
    ask("scontrol", "update", "partitionname=main", "state=down")
    try:
        job = submit(recipe, run, f"data.shards={shards}")
        damaged = sorted(shards.glob("*.arrow"))[0]
        damaged.write_bytes(damaged.read_bytes()[:-64])
    finally:
        ask("scontrol", "update", "partitionname=main", "state=up")
    finish(run, job, ("FAILED",))
    found = status(run)
    assert found["restarts"] == 0 and not found["done"]
    assert damaged.name in found["error"] and "rank 0" in found["error"]
    assert damaged.name in mmgnn("status", run).stdout
    assert damaged.name in mmgnn("logs", run).stdout


def test_cancelled_is_not_requeued_and_continues_when_submitted_again(cluster, recipe, undisturbed, tmp_path):
    run = tmp_path / "run"
    first = submit(recipe, run)
    assert (
        f"job {first} already" in mmgnn("submit", recipe, "--profile", PROFILE, "--run", run, code=2).stderr
    )
    reach(run, 45)
    assert first in mmgnn("cancel", run).stdout
    finish(run, first, ("CANCELLED",))
    assert "nothing to cancel" in mmgnn("cancel", run).stdout
    second = submit(recipe, run)
    finish(run, second)
    same_end(run, undisturbed)
    assert len(journal(run, "resume")) == 1


def test_three_folds_and_their_report(cluster, recipe, tmp_path):
    """Three elements of an array, each with its own fold, and a job that waits for them."""
    base = tmp_path / "folds"
    words = ["--folds", "0,1,2", "data.split=kfold", "train.max_steps=20", "track.wandb=disabled"]
    jobs = submit_all(recipe, base, *words)
    assert len({job["job"].split("_")[0] for job in jobs[:3]}) == 1 and "report" in jobs[3]
    wait((base / "report.md").is_file, "the report", base)
    runs = [base / f"fold_{fold}" for fold in range(3)]
    errors = [metrics(run)["metrics"]["test/mae/gap_eV"] for run in runs]
    assert len(set(errors)) == 3
    table = (base / "report.md").read_text().splitlines()
    row = next(line for line in table if "test/mae/gap_eV" in line).split("|")
    mean = sum(errors) / 3
    assert float(row[3]) == pytest.approx(mean, rel=1e-3) and row[5].strip() == "3"
    sd = (sum((error - mean) ** 2 for error in errors) / 2) ** 0.5
    assert float(row[4]) == pytest.approx(sd, rel=1e-3)


def test_later_edits_do_not_reach_a_queued_job(cluster, recipe, tmp_path):
    """A job imports the copy taken at submission, also when it starts in the checkout."""
    run = tmp_path / "run"
    job = submit(recipe, run, "train.max_steps=2", "track.wandb=disabled")
    probe = (
        Path(json.loads((run / "slurm" / "job.json").read_text())["code"])
        / "mmgnn_dist"
        / "train"
        / "__init__.py"
    )
    probe.write_text(probe.read_text() + "import os\nprint('copy at work', flush=True)\n")
    finish(run, job)
    assert "copy at work" in log(run)


@pytest.mark.slow
def test_time_limit(cluster, recipe, undisturbed, tmp_path):
    """A limit of a minute, and Slurm's signal 30 s before: the run is requeued until it is done."""
    profile = tmp_path / "short.yaml"
    short = PROFILE.read_text().replace('"01:00:00"', '"00:01:00"')
    profile.write_text(short)
    run, slow = tmp_path / "run", tmp_path / "undisturbed"
    long = ["train.epochs=9", "train.max_steps=2500"]
    mmgnn("train", recipe, "--run", slow, "--nproc", 2, *long, limit=900)
    job = submit(recipe, run, *long, profile=profile)
    wait(lambda: state(job) == "COMPLETED", "the end", run, limit=900)
    same_end(run, slow)
    assert status(run)["restarts"] >= 1 and len(set(wandb_ids(run))) == 1


@pytest.mark.slow
def test_a_node_that_loses_power(cluster, recipe, undisturbed, tmp_path):
    """The node goes with all its processes, Slurm notices, the job moves to the two others."""
    run = tmp_path / "run"
    job = submit(recipe, run)
    reach(run, 45)
    cluster.do("kill", "node2")
    try:
        finish(run, job)
    finally:
        cluster.do("start", "node2")
    same_end(run, undisturbed)
    notes = run / "slurm" / f"{job}.{status(run)['restarts']}"
    assert {(notes / f"rank_{rank}.started").read_text() for rank in (0, 1)} == {"node1", "node3"}
    wait(lambda: "node2 idle" in ask("sinfo", "-h", "-N", "-o", "%N %T"), "node2", run)


@pytest.mark.slow
def test_slurmd_killed_and_brought_back(cluster, recipe, undisturbed, tmp_path):
    """Only the daemon dies: whatever becomes of the processes, the run ends as undisturbed."""
    run = tmp_path / "run"
    job = submit(recipe, run)
    reach(run, 45)
    pid = ask("pgrep", "-f", f"slurmd -D -N node1 -f {cluster.folder}/").split()
    for one in pid:
        if Path(f"/proc/{one}/comm").read_text().strip() == "slurmd":
            os.kill(int(one), signal.SIGKILL)
    time.sleep(2)
    cluster.do("start", "node1")
    finish(run, job)
    same_end(run, undisturbed)
    assert len(set(wandb_ids(run))) == 1


@pytest.mark.slow
def test_a_drained_node(cluster, recipe, undisturbed, tmp_path):
    """After its requeue the run leaves the drained node."""
    run = tmp_path / "run"
    job = submit(recipe, run)
    reach(run, 45)
    ask("scontrol", "update", "nodename=node1", "state=drain", "reason=test")
    try:
        ask("scancel", "--signal=USR1", job)
        finish(run, job)
    finally:
        ask("scontrol", "update", "nodename=node1", "state=resume")
    same_end(run, undisturbed)
    notes = run / "slurm" / f"{job}.1"
    assert {(notes / f"rank_{rank}.started").read_text() for rank in (0, 1)} == {"node2", "node3"}


@pytest.mark.slow
def test_restarts_are_bounded(cluster, recipe, tmp_path):
    profile = tmp_path / "few.yaml"
    profile.write_text(PROFILE.read_text().replace("max_restarts: 10", "max_restarts: 1"))
    run = tmp_path / "run"
    job = submit(recipe, run, "train.max_steps=5000", "train.epochs=99", profile=profile)
    for start in (1, 2):
        reach(run, 20 * start, starts=start)
        kill_task(run)
    finish(run, job, ("FAILED",))
    assert status(run)["restarts"] == 1 and "max_restarts" in log(run)


@pytest.mark.slow
def test_plain_sbatch(cluster, recipe, undisturbed, tmp_path):
    """The script for people without submitit reaches the same end, through a requeue."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copyfile(undisturbed / "recipe.yaml", run / "recipe.yaml")
    script = PROFILE.parent / "cpu.sbatch"
    interface = "--export=ALL,GLOO_SOCKET_IFNAME=lo"
    job = ask("sbatch", "--parsable", interface, f"--output={tmp_path}/%j.out", str(script), str(run)).strip()
    reach(run, 20)
    ask("scancel", "--signal=USR2", job)
    finish(run, job)
    same_end(run, undisturbed)
