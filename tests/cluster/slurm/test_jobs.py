"""Jobs on a real Slurm: what two nodes train, what is around them, and what ends a job for good."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from command_line import metrics, mmgnn, start
from hub import COMMIT, NAME, call, serve
from jobs import (
    PROFILE,
    ask,
    changed,
    finish,
    held,
    log,
    nodes,
    reach,
    same_end,
    status,
    submit,
    submit_all,
    tasks,
    wait,
    wandb_groups,
)
from listeners import listeners

pytestmark = pytest.mark.slurm
QUIET = 40.0  # seconds from submission to the first step on an idle machine


def test_two_nodes_train_as_one_machine_does_and_soon(cluster, recipe, undisturbed, tmp_path, monkeypatch):
    """Also what a profile sets: modules, environment, interface, scratch, cache, lines of sbatch."""
    run, cache = tmp_path / "runs" / "small", tmp_path / "models"
    cache.mkdir()
    # a site's module command is a function of the shell that comes with the environment
    monkeypatch.setenv("BASH_FUNC_module%%", '() {  export LOADED="$*"\n}')
    profile = changed(
        tmp_path,
        modules=["tools/1.0"],
        setup=["export PREPARED=$(hostname)"],
        scratch=str(tmp_path / "new"),
        cache=str(cache),
        environment={"DS_ACCELERATOR": "cpu", "GREETING": "two words"},
        sbatch=["--comment=ours", "--nice=7"],
    )
    load = os.getloadavg()[0]
    started = time.monotonic()
    job = submit(recipe, run, profile=profile)
    reach(run, 1)
    took = time.monotonic() - started
    busy = max(1.0, max(load, *os.getloadavg()) / (os.cpu_count() or 1))
    print(f"from submit to the first step {took:.1f} s, load {busy:.1f} times the processors")
    assert took < QUIET * busy

    assert set(listeners(f"SLURM_JOB_ID={job}\0", str(cluster.folder))) == {"127.0.0.1"}

    follower = start("logs", run, "--follow")
    content = Path(f"/proc/{tasks(run)[0]}/environ").read_text().split("\0")
    variables = dict(part.split("=", 1) for part in content if "=" in part)
    expected = {
        "LOADED": "load tools/1.0",
        "PREPARED": os.uname().nodename,
        "TMPDIR": str(tmp_path / "new"),
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1",
        "GREETING": "two words",
        "NCCL_SOCKET_IFNAME": "lo",
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "1",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert (tmp_path / "new").is_dir()
    shown = ask("scontrol", "-o", "show", "job", job)
    assert "Comment=ours" in shown and "Nice=7" in shown and "Account=dev" in shown
    monkeypatch.chdir(tmp_path)
    said = mmgnn("status").stdout
    assert f"runs/small: job {job} RUNNING, step" in said and "molecules/s" in said and "left, loss" in said

    finish(run, job)
    same_end(run, undisturbed)
    assert nodes(run, job, 0) == {"node1", "node2"}
    found = status(run)
    assert found["done"] and found["restarts"] == 0 and found["step"] == found["steps"]
    assert "COMPLETED" in ask("sacct", "-n", "-X", "-j", job, "-o", "State")
    assert follower.wait() == 0 and follower.output().splitlines()[-1] in log(run)
    assert json.loads((run / "deepspeed.json").read_text())["zero_optimization"]["stage"] == 2


def test_a_fault_of_its_own_is_not_repeated(cluster, recipe, tmp_path):
    """A shard that is damaged after submission; and the job imports the copy taken at submission."""
    source = recipe.read_text().split("shards: ")[1].split("}")[0]
    shards = Path(shutil.copytree(source, tmp_path / "shards"))
    run = tmp_path / "run"
    ask("scontrol", "update", "partitionname=main", "state=down")
    try:
        job = submit(recipe, run, f"data.shards={shards}")
        assert status(run)["state"].startswith("PENDING (Partition")
        code = Path(json.loads((run / "slurm" / "job.json").read_text())["code"])
        probe = code / "mmgnn_dist" / "train" / "__init__.py"
        probe.write_text(probe.read_text() + "print('copy at work', flush=True)\n")
        damaged = sorted(shards.glob("*.arrow"))[0]
        damaged.write_bytes(damaged.read_bytes()[:-64])
    finally:
        ask("scontrol", "update", "partitionname=main", "state=up")
    finish(run, job, ("FAILED",))
    found = status(run)
    assert found["restarts"] == 0 and not found["done"]
    assert re.match(rf"rank [01]: .*{damaged.name} is truncated", found["error"])
    assert damaged.name in mmgnn("status", run).stdout
    assert damaged.name in mmgnn("logs", run).stdout
    assert "copy at work" in log(run)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"interface": "ib7"}, "no interface ib7 with an IPv4 address here, only"),
        ({"python": "/bin/false"}, "no rank started (srun ended with 1)"),
        ({"modules": ["cuda/99"]}, "module: command not found"),
    ],
)
def test_a_job_that_cannot_start_fails_once(cluster, recipe, tmp_path, keys, says):
    run = tmp_path / "run"
    job = submit(recipe, run, profile=changed(tmp_path, **keys))
    finish(run, job, ("FAILED",))
    found = status(run)
    assert found["restarts"] == 0 and says in found["error"], log(run)


def test_cancelled_is_not_requeued_and_continues_when_submitted_again(cluster, recipe, undisturbed, tmp_path):
    """As a user reads it: the job, its log, its run directory, how to follow and to cancel."""
    run = tmp_path / "run"
    words = ["submit", recipe, "--profile", PROFILE, "--run", run]
    said = mmgnn(*words).stdout
    first = status(run)["job"]
    assert f"job {first}: run directory {run}, log {run}/slurm/{first}_0_log.out" in said
    assert f"mmgnn status {run}" in said and f"mmgnn logs {run}" in said and f"mmgnn cancel {run}" in said
    assert f"job {first} already" in mmgnn(*words, code=2).stderr
    reach(run, 10)
    for name in ("TERM", "INT", "USR1", "USR2"):
        ask("scancel", "--batch", f"--signal={name}", first)  # the batch shell alone: the ranks go on
    reach(run, 25)
    assert first in mmgnn("cancel", run).stdout
    finish(run, first, ("CANCELLED",))
    assert "nothing to cancel" in mmgnn("cancel", run).stdout
    second = submit(recipe, run)
    finish(run, second)
    same_end(run, undisturbed)


@pytest.mark.slow  # an array of a study, in test_study_jobs.py, is in every run
def test_three_folds_and_their_report(cluster, recipe, tmp_path):
    """An array with an encoder of the hub, which the login node brings; and the job that waits for all.

    Each run has one rank: arrays are not about ranks, and a rank more costs its imports.
    """
    base = tmp_path / "folds"
    with serve(tmp_path) as online:
        profile = changed(tmp_path, nodes=1, cache=online["HF_HOME"])
        words = ["submit", recipe, "--profile", profile, "--run", base, "--folds", "0,1,2", "--json"]
        words += ["data.split=kfold", "train.max_steps=60"]
        words += [f"text.encoder={NAME}", f"text.revision={COMMIT}"]
        Path(online["HF_HOME"]).mkdir()
        missing = call(online, *words)
        assert missing.returncode == 2 and missing.stderr.count("\n") == 1
        assert f"HF_HOME={online['HF_HOME']} mmgnn fetch-model {NAME}@{COMMIT}" in missing.stderr
        assert not base.exists()
        assert call(online, "fetch-model", f"{NAME}@{COMMIT}").returncode == 0
    # the hub is gone
    done = call(online, *words)
    assert done.returncode == 0, done.stderr
    jobs = json.loads(done.stdout)["jobs"]
    assert len({job["job"].split("_")[0] for job in jobs[:3]}) == 1 and "report" in jobs[3]
    runs = [base / f"fold_{fold}" for fold in range(3)]
    # the last element has the number of the whole array: it alone is to go back to the queue
    reach(runs[2], 3)
    with held(runs[2], ranks=1):
        ask("scancel", "--signal=USR2", jobs[2]["job"])
    wait((base / "report.md").is_file, "the report", base)
    assert [status(run)["restarts"] for run in runs] == [0, 0, 1]
    assert wandb_groups(runs) == {"small"}
    errors = [metrics(run)["metrics"]["test/mae/gap_eV"] for run in runs]
    assert len(set(errors)) == 3
    table = (base / "report.md").read_text().splitlines()
    row = next(line for line in table if "test/mae/gap_eV" in line).split("|")
    mean = sum(errors) / 3
    assert float(row[3]) == pytest.approx(mean, rel=1e-3) and row[5].strip() == "3"
    sd = (sum((error - mean) ** 2 for error in errors) / 2) ** 0.5
    assert float(row[4]) == pytest.approx(sd, rel=1e-3)


def test_seeds_are_cancelled_with_their_report(cluster, recipe, tmp_path):
    ask("scontrol", "update", "partitionname=main", "state=down")
    try:
        *runs, report = submit_all(recipe, tmp_path / "seeds", "--seeds", "3,4")
        assert [Path(job["run"]).name for job in runs] == ["seed_3", "seed_4"]
        told = json.loads(mmgnn("cancel", runs[0]["run"], "--json").stdout)["cancelled"]
        assert told == [runs[0]["job"]]
        told = json.loads(mmgnn("cancel", tmp_path / "seeds", "--json").stdout)["cancelled"]
        assert told == [runs[1]["job"], report["job"]]
    finally:
        ask("scontrol", "update", "partitionname=main", "state=up")
