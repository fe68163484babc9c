"""What else a site does to a job: too little memory, wrong clocks, a disk that is read-only, other users."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import metrics
from jobs import (
    PROFILE,
    ask,
    changed,
    finish,
    held,
    log,
    reach,
    same_end,
    state,
    status,
    submit,
    submit_all,
    wait,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
MEMORY = Path("/sys/fs/cgroup/memory")
FAKED = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
HUNGRY = """
import sys, time
open("/proc/self/oom_score_adj", "w").write("-1000")
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
kept = bytearray(100 << 20)
time.sleep(1)
"""
NOBODY = 65534


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup whose memory can be limited."""
    folder = MEMORY / f"mmgnn-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of version 1 can be made: {error}")
    yield folder
    for pid in (folder / "cgroup.procs").read_text().split():
        (MEMORY / "cgroup.procs").write_text(pid)
    folder.rmdir()


def test_a_rank_that_a_cgroup_ends_goes_on_and_the_cause_is_named(
    cluster, recipe, undisturbed, tmp_path, cgroup
):
    """The limit is reached once; the kernel kills the largest process of the cgroup, a rank."""
    run = tmp_path / "run"
    slurmd = ask("pgrep", "-xf", f"slurmd -N node2 -f {cluster.folder}/slurm.conf")
    (cgroup / "cgroup.procs").write_text(slurmd)  # what it starts from now on is in it
    job = submit(recipe, run)
    reach(run, 25)
    with held(run):
        used = int((cgroup / "memory.usage_in_bytes").read_text())
        (cgroup / "memory.limit_in_bytes").write_text(str(used + (20 << 20)))
        subprocess.run([sys.executable, "-c", HUNGRY, str(cgroup)], check=False)
        (cgroup / "memory.limit_in_bytes").write_text("-1")
    finish(run, job)
    same_end(run, undisturbed)
    (note,) = (run / "slurm" / f"{job}.0").glob("rank_*.killed")
    assert "was killed by signal 9, by the out-of-memory killer" in note.read_text()
    assert status(run)["restarts"] == 1


@pytest.mark.parametrize("hours", ["+3", "-3"])
def test_a_node_whose_clock_is_wrong_changes_nothing(cluster, recipe, undisturbed, tmp_path, hours):
    if not FAKED.is_file():
        pytest.skip("libfaketime is not installed: apt-get install faketime")
    run, python = tmp_path / "run", tmp_path / "python"
    faked = f"export LD_PRELOAD={FAKED} FAKETIME={hours}h"
    python.write_text(f'#!/bin/sh\n[ "$SLURM_PROCID" = 1 ] && {faked}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    job = submit(recipe, run, profile=changed(tmp_path, python=str(python)))
    reach(run, 25)
    with held(run):
        ask("scancel", "--signal=USR2", job)
    finish(run, job)
    same_end(run, undisturbed)
    assert status(run)["restarts"] == 1


def test_a_disk_that_is_read_only_is_named_and_the_same_command_continues(
    cluster, recipe, undisturbed, tmp_path
):
    """A read-only mount over the run directory on the node of rank 0."""
    run = tmp_path / "run"
    job = submit(recipe, run)
    reach(run, 25)
    outer = int((cluster.folder / "node1.pid").read_text())
    inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
    inside = ("nsenter", f"--target={inner}", "--pid", "--mount", "sh", "-c")
    try:
        with held(run):
            ask(*inside, f"mount --bind {run} {run} && mount -o remount,bind,ro {run}")
        finish(run, job, ("FAILED",))
    finally:
        ask(*inside, f"umount -l {run}")
    assert "Read-only file system" in str(status(run)["error"]), log(run)[-3000:]
    finish(run, submit(recipe, run))
    same_end(run, undisturbed)


def test_a_member_of_an_array_that_fails_stops_no_other(cluster, recipe, tmp_path):
    """One of three folds asks for a GPU that is not there; the report names it, and it alone runs again."""
    base = tmp_path / "folds"
    broken = '[ "$SLURM_ARRAY_TASK_ID" != 1 ] || export DS_ACCELERATOR=cuda'
    words = ("--folds", "0,1,2", "train.max_steps=20")
    profile = changed(tmp_path, setup=[broken], nodes=1, environment={})
    *runs, report = submit_all(recipe, base, *words, profile=profile)
    wait((base / "report.md").is_file, "the report", Path(runs[0]["run"]))
    told = {Path(run["run"]).name: status(Path(run["run"])) for run in runs}
    assert [name for name, found in told.items() if not found["done"]] == ["fold_1"]
    assert "no GPU" in told["fold_1"]["error"]
    assert "Not finished: fold_1" in (base / "report.md").read_text()
    wait(lambda: state(report["job"]) == "COMPLETED", "the end", Path(runs[0]["run"]))
    finished = metrics(base / "fold_0")
    submit_all(recipe, base, *words, profile=changed(tmp_path, nodes=1))
    wait((base / "fold_1" / "metrics.json").is_file, "the failed member", base / "fold_1")
    assert metrics(base / "fold_0") == finished


def as_nobody(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command line as another user of this machine."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command = [*user, "env", "HOME=/tmp", sys.executable, "-m", "mmgnn_dist.cli", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can read, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_another_user_reads_a_run_and_changes_nothing(cluster, recipe, open_folder):
    """Status, logs, a prediction; to cancel, to submit and to train are refused in one line."""
    run = open_folder / "run"
    job = submit(recipe, run, "train.max_steps=2000", "train.epochs=99")
    reach(run, 25)
    profile = shutil.copy(PROFILE, open_folder)
    shown = as_nobody("status", run, "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["runs"][0]["state"] == "RUNNING"
    for words in (
        ("cancel", run),
        ("submit", run / "recipe.yaml", "--profile", profile, "--run", run),
        ("train", run / "recipe.yaml", "--run", run),
    ):
        done = as_nobody(*words)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, (words, done.stdout, done.stderr)
    assert state(job) == "RUNNING"
    ask("scancel", job)
