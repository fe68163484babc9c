"""Ray inside of allocations of the dev cluster: preparation, a sweep that is killed, two at a time."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
from command_line import mmgnn
from jobs import ask
from processes_left import none_left
from ray_batch import LIMIT, batch
from sweep_states import RECIPE, half_way, progress, states, went_on

from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.shards import read_manifest

pytestmark = pytest.mark.slurm


def until(ready, log: Path, what: str) -> None:
    end = time.monotonic() + LIMIT
    while not ready():
        assert time.monotonic() < end, f"{what} did not come\n{log.read_text() if log.exists() else ''}"
        time.sleep(0.1)


def test_shards_of_two_nodes_are_those_of_one_machine(cluster, tmp_path):
    data = DataConfig(rows_per_shard=150)
    prepare(["sample"], tmp_path / "one", data=data)
    log = tmp_path / f"{tmp_path.name}.log"
    words = [
        sys.executable,
        "-m",
        "mmgnn_dist.cli",
        "data",
        "prepare",
        "sample",
        "--to",
        tmp_path / "two",
    ]
    batch(log, *words, "data.rows_per_shard=150", "data.workers=2")
    one, two = (read_manifest(tmp_path / name) for name in ("one", "two"))
    assert len(one["shards"]) > 20 and one["shards"] == two["shards"]
    assert one["counts"] == two["counts"]
    none_left(log.stem)
    assert not list(Path("/tmp").glob("r[0-9]*.[0-9]*"))


MEET = """
import json, os, sys, time
from pathlib import Path
from mmgnn_dist.cluster.ray.allocation import ray_around
folder, own, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with ray_around():
    import ray
    def look():
        time.sleep(1.5)
        return os.environ["SLURM_JOB_ID"], os.environ["SLURMD_NODENAME"]
    def told():
        run = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(look)
        return sorted(set(ray.get([run.remote() for _ in range(8)])))
    address = ray.get_runtime_context().gcs_address
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    (folder / f"{own}.part").write_text(json.dumps({"address": address, "nodes": nodes, "told": told()}))
    (folder / f"{own}.part").rename(folder / f"{own}.json")
    while not (folder / f"{other}.json").exists():
        time.sleep(0.1)
    again = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    (folder / f"{own}.again").write_text(json.dumps({"nodes": again, "told": told()}))
    while not (folder / f"{other}.again").exists():
        time.sleep(0.1)
"""


@pytest.mark.slow
def test_two_clusters_at_a_time_do_not_meet(cluster, tmp_path):
    """Two jobs on the same nodes, under one address: each sees its own nodes and processes alone."""
    script = tmp_path / "meet.py"
    script.write_text(MEET)
    logs = [tmp_path / f"{tmp_path.name}-{name}.log" for name in ("a", "b")]
    pairs = (("a", "b"), ("b", "a"))
    jobs = [
        batch(log, sys.executable, script, tmp_path, *pair, wait=False)
        for log, pair in zip(logs, pairs, strict=True)
    ]
    for name, log in zip("ab", logs, strict=True):
        until((tmp_path / f"{name}.again").exists, log, "the second look")
    first = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab"]
    again = [json.loads((tmp_path / f"{name}.again").read_text()) for name in "ab"]
    assert first[0]["address"] != first[1]["address"]
    assert not set(first[0]["nodes"]) & set(first[1]["nodes"])
    for job, before, after in zip(jobs, first, again, strict=True):
        assert sorted(before["nodes"]) == sorted(after["nodes"]) and len(after["nodes"]) == 2
        assert {told[0] for told in before["told"] + after["told"]} == {job}
        assert len({told[1] for told in before["told"]}) == 2
    for log in logs:
        none_left(log.stem)


@pytest.mark.slow
def test_a_sweep_of_two_nodes_that_is_killed_continues(cluster, sample_shards, tmp_path):
    """Eight trials; the job is cancelled in the middle, without warning, and submitted again."""
    shards = shutil.copytree(sample_shards.path, tmp_path / "shards")
    recipe, folder = tmp_path / "search.yaml", tmp_path / "sweep"
    recipe.write_text(RECIPE % shards)
    words = [sys.executable, "-m", "mmgnn_dist.cli", "sweep", recipe, "--dir", folder, "sweep.samples=8"]
    log = tmp_path / f"{tmp_path.name}.log"
    job = batch(log, *words, wait=False)

    until(lambda: half_way(folder, 3), log, "the middle")
    ask("scancel", "--signal=KILL", "--full", job)
    none_left(log.stem)
    (status,) = json.loads(mmgnn("status", folder, "--json").stdout)["commands"]
    assert (status["job"], status["kind"], status["log"]) == (job, "sweep", str(log))
    assert status["error"] and not status["done"] and sum(status["progress"].values()) > 0
    before = progress(folder)
    batch(log, *words)
    none_left(log.stem)
    assert set(states(folder).values()) == {"done"} and len(states(folder)) == 8
    went_on(folder, before)
    (status,) = json.loads(mmgnn("status", folder, "--json").stdout)["commands"]
    assert status["done"] and status["progress"] == {"done": 8} and (folder / "best.yaml").exists()


@pytest.mark.slow
def test_a_trial_whose_gpu_is_not_there_fails_and_does_not_train_on_the_cpu(cluster, sample_shards, tmp_path):
    """The dev cluster's GPUs are counted by Slurm and Ray, and compute nothing: two trials share one."""
    recipe, folder = tmp_path / "search.yaml", tmp_path / "sweep"
    recipe.write_text(RECIPE % shutil.copytree(sample_shards.path, tmp_path / "shards"))
    words = [sys.executable, "-m", "mmgnn_dist.cli", "sweep", recipe, "--dir", folder, "sweep.samples=2"]
    log = tmp_path / f"{tmp_path.name}.log"
    batch(log, *words, "sweep.gpus=0.5", code=2, gpus=1)
    assert "all 2 trials failed" in log.read_text() and "no GPU is seen here" in log.read_text()
    assert set(states(folder).values()) == {"failed"} and not any(folder.glob("trials/*/journal.jsonl"))
