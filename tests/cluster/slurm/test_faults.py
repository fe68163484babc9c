"""What disturbs a run on a real Slurm, and that it ends by itself with the bits of the undisturbed run."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest
from command_line import journal, mmgnn
from jobs import (
    PROFILE,
    ask,
    changed,
    finish,
    held,
    kill_task,
    nodes,
    reach,
    same_end,
    state,
    status,
    submit,
    wait,
    wandb_ids,
)

pytestmark = pytest.mark.slurm
# the end of the allocation, of which no signal tells: near from the first step on, in the first start
NEAR = '[ "${SLURM_RESTART_COUNT:-0}" != 0 ] || export SLURM_JOB_END_TIME=$(date +%s)'


def kill_slurmd(cluster, node: str) -> None:
    """The daemon alone; what it has started goes on."""
    pid = ask("pgrep", "-xf", f"slurmd -N {node} -f {cluster.folder}/slurm.conf")
    os.kill(int(pid), signal.SIGKILL)


def idle(node: str) -> bool:
    return f"{node} idle" in ask("sinfo", "-h", "-N", "-o", "%N %T")


def test_six_faults_change_nothing(cluster, recipe, undisturbed, tmp_path):
    """A deadline, slurmd killed and brought back, a signal, a task killed, a node drained, a requeue."""
    run = tmp_path / "run"
    job = submit(recipe, run, profile=changed(tmp_path, setup=[NEAR]))
    reach(run, 2, starts=2)
    kill_slurmd(cluster, "node1")
    cluster.do("start", "node1")
    reach(run, 10, starts=2)
    with held(run):
        ask("scancel", "--signal=TERM", job)  # every process of the step, W&B's too
    reach(run, 25, starts=3)
    with held(run):
        kill_task(run)
    reach(run, 45, starts=4)
    try:
        with held(run):
            ask("scontrol", "update", "nodename=node1", "state=drain", "reason=test")
            ask("scontrol", "requeue", job)
        finish(run, job)
    finally:
        ask("scontrol", "update", "nodename=node1", "state=resume")
    same_end(run, undisturbed)
    resumed = [line["step"] for line in journal(run, "resume")]
    # at the deadline and the signal a checkpoint of its own; from then on those of every 20 steps
    assert len(resumed) == 4 and resumed[0] < 10 <= resumed[1] and resumed[2] >= 20 and resumed[3] >= 40
    assert status(run)["restarts"] == 4
    assert nodes(run, job, 0) == {"node1", "node2"} and nodes(run, job, 4) == {"node2", "node3"}
    ids = wandb_ids(run)
    assert len(ids) == 5 and set(ids) == {(run / "wandb" / "id").read_text()}


@pytest.mark.slow
def test_time_limit(cluster, recipe, undisturbed, tmp_path):
    """A run that takes too long: Slurm's signal comes 30 s before the end of the two minutes."""
    run = tmp_path / "run"
    job = submit(recipe, run, profile=changed(tmp_path, time="00:02:00"))
    reach(run, 25)
    notes = run / "slurm"
    with held(run):  # Slurm lets them go on when it sends the signal
        wait((notes / f"{job}.1" / "rank_0.started").is_file, "the second start", run)
    assert {path.suffix for path in (notes / f"{job}.0").glob("rank_*")} == {".started", ".stopped"}
    finish(run, job)
    same_end(run, undisturbed)
    assert status(run)["restarts"] == 1 and len(set(wandb_ids(run))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("partition", ["main", "graced"])
def test_preempted_by_a_partition_of_higher_priority(cluster, recipe, undisturbed, tmp_path, partition):
    """Slurm takes the nodes by itself, at once or after a signal and a minute, and gives them back later."""
    run = tmp_path / "run"
    job = submit(recipe, run, profile=changed(tmp_path, partition=partition))
    reach(run, 25)
    urgent = ["sbatch", "-A", "dev", "-p", "urgent", "-N3", "--exclusive", f"-o{tmp_path}/urgent"]
    with held(run):
        ask(*urgent, "--wrap", "sleep 2")
        wait(lambda: state(job) != "RUNNING", "the preemption", run)
    finish(run, job)
    same_end(run, undisturbed)
    assert status(run)["restarts"] == 1


@pytest.fixture
def another_user(cluster) -> Iterator[list[str]]:
    """Start of the command line by which another user submits a job to the partition of higher priority."""
    ask("sacctmgr", "-i", "add", "user", "nobody", "Account=dev", "QOS=normal", "DefaultQOS=normal")
    try:
        words = ["sbatch", "--uid=nobody", "--gid=nogroup", "-D/", "-Adev", "-purgent", "-N3", "--exclusive"]
        yield [*words, "-o/dev/null"]
    finally:
        ask("sacctmgr", "-i", "delete", "user", "nobody")


@pytest.mark.slow
def test_preempted_again_and_again_with_a_grace_time(cluster, recipe, another_user, tmp_path):
    """300 steps; the other user wants all nodes every 60 steps: same bits, at most one step lost a time."""
    words = ("train.max_steps=300", "train.epochs=9")
    alone, run = tmp_path / "alone", tmp_path / "run"
    mmgnn("train", recipe, "--run", alone, "--nproc", 2, *words)
    job = submit(recipe, run, *words, profile=changed(tmp_path, partition="graced"))
    before = []
    for start in range(1, 5):
        reach(run, 60 * start, starts=start)
        with held(run):
            before.append(journal(run)[-1]["step"])
            ask(*another_user, "--wrap", "sleep 1")
            wait(lambda: "PreemptTime=2" in ask("scontrol", "-o", "show", "job", job), "preemption", run)
        wait(lambda start=start: len(journal(run, "resume")) >= start, f"start {start + 1}", run)
    finish(run, job)
    same_end(run, alone)
    lost = [b - line["step"] for b, line in zip(before, journal(run, "resume"), strict=True)]
    assert max(lost) <= 1, lost
    assert status(run)["restarts"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_node_that_loses_power(cluster, recipe, undisturbed, tmp_path, node):
    """The one with the batch script, or another: Slurm notices, the job moves to the two others."""
    run = tmp_path / "run"
    job = submit(recipe, run)
    reach(run, 25)
    try:
        with held(run):
            cluster.do("kill", node)
        finish(run, job)
    finally:
        cluster.do("start", node)
    same_end(run, undisturbed)
    assert nodes(run, job, status(run)["restarts"]) == {"node1", "node2", "node3"} - {node}
    assert status(run)["restarts"] == 1 and len(set(wandb_ids(run))) == 1
    wait(lambda: idle(node), node, run)


@pytest.mark.slow
def test_slurmd_lost_for_longer_than_slurm_waits(cluster, recipe, undisturbed, tmp_path):
    """Slurm gives up a node whose processes still live: two starts never train in one run directory."""
    run = tmp_path / "run"
    job = submit(recipe, run)
    reach(run, 25)
    try:
        with held(run):
            kill_slurmd(cluster, "node1")
            wait((run / "slurm" / f"{job}.1" / "rank_1.started").is_file, "the second start", run)
        finish(run, job)
    finally:
        cluster.do("start", "node1")
    same_end(run, undisturbed)
    assert nodes(run, job, 1) == {"node2", "node3"}
    assert status(run)["restarts"] == 1 and len(set(wandb_ids(run))) == 1
    wait(lambda: idle("node1"), "node1", run)


def test_an_interpreter_that_is_broken_on_one_node_is_found_after_two_restarts(cluster, recipe, tmp_path):
    """srun ends the other rank by a signal, which says nothing about the cause."""
    run, python = tmp_path / "run", tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$SLURM_PROCID" = 1 ] && exit 126\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    job = submit(recipe, run, profile=changed(tmp_path, python=str(python)))
    finish(run, job, ("FAILED",))
    found = status(run)
    assert found["restarts"] == 2 and "did not start: srun: error: node2: task 1: Exited" in found["error"]


@pytest.mark.slow
def test_restarts_are_bounded(cluster, recipe, tmp_path):
    run = tmp_path / "run"
    profile = changed(tmp_path, max_restarts=1)
    job = submit(recipe, run, "train.max_steps=5000", "train.epochs=99", profile=profile)
    for start in (1, 2):
        reach(run, 20 * start, starts=start)
        kill_task(run)
    finish(run, job, ("FAILED",))
    found = status(run)
    assert found["restarts"] == 1 and "restarted 1 times (max_restarts)" in found["error"]
    assert "killed by signal 9" in found["error"]


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
    with held(run):
        ask("scancel", "--signal=USR2", job)
    finish(run, job)
    same_end(run, undisturbed)
