"""`mmgnn submit` before anything is submitted: dry runs, shipped profiles, mistakes refused by one line."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from jobs import PROFILE, ask, changed

from mmgnn_dist.cli.main import main

SLURM = PROFILE.parent
SHIPPED = sorted(SLURM.glob("*.yaml"))


@pytest.fixture(autouse=True)
def own_environment(tmp_path, monkeypatch):
    """What `mmgnn submit` sets in its process does not stay in this one."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def judge(script: str) -> subprocess.CompletedProcess[str]:
    """What sbatch says of a script."""
    return subprocess.run(
        ["sbatch", "--test-only"], check=False, capture_output=True, text=True, input=script
    )


@pytest.mark.slurm
@pytest.mark.parametrize("profile", SHIPPED, ids=lambda path: path.stem)
def test_shipped_profiles_are_accepted_and_one_gpu_too_many_is_not(
    cluster, recipe, tmp_path, capsys, profile
):
    def dry_run(chosen: Path) -> int:
        words = ["submit", str(recipe), "--profile", str(chosen), "--run", str(tmp_path / "run")]
        return main([*words, "train.batch=32", "--dry-run"])

    assert dry_run(profile) == 0
    shown = capsys.readouterr().out
    assert "a run starts again by a requeue of its job" in shown
    done = judge(shown)
    assert done.returncode == 0 and "to start at" in done.stderr
    # the same script with five GPUs a node, and the profile with them
    line = "#SBATCH --nodes=2\n"
    assert line in shown
    done = judge(
        shown.replace("#SBATCH --gpus-per-node=4\n", "").replace(line, f"{line}#SBATCH --gpus-per-node=5\n")
    )
    assert done.returncode != 0 and "configuration is not available" in done.stderr
    assert dry_run(changed(tmp_path, profile, gpus_per_node=5, tasks_per_node=5)) == 2
    assert re.search("gpus_per_node=5, but a node of .* has 4", capsys.readouterr().err)


@pytest.mark.slurm
@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_plain_files_are_accepted(cluster, name):
    path = SLURM / f"{name}.sbatch"
    done = subprocess.run(["sbatch", "--test-only", path, "run"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"partition": "mian"}, "partition=mian is unknown (did you mean 'main'?); this cluster has"),
        ({"gpus_per_node": 5, "tasks_per_node": 5}, "a node of partition main has 4"),
        ({"gpus_per_node": 1, "gpu_type": "h100"}, "gpu_type=h100: partition main has a100"),
        ({"time": "3-00:00:00"}, "over the limit of partition main, which is 2-00:00:00"),
        ({"cache": "/no/where"}, "cache=/no/where is not there"),
        ({"python": "/no/python"}, "python=/no/python is not there"),
        ({"container": {"kind": "apptainer", "image": "/no/image.sif"}}, "container.image=/no/image.sif"),
        (
            {"container": {"kind": "apptainer", "image": "/bin/sh", "mounts": ["/no/data:/data"]}},
            "container.mounts=/no/data is not there",
        ),
        ({"account": "debv"}, "account=debv is none of yours (did you mean 'dev'?); you have dev, m0000_g"),
        ({"qos": "best"}, "qos=best is none of account dev; there are "),
        ({"qos": "debug", "time": "01:00:00"}, "Slurm refuses the job"),
        ({"constraint": "gpu&h100"}, "no feature h100, partition main has a100, gpu"),
        (
            {"nodelist": "node9"},
            "nodelist=node9: partition main has no node9 (did you mean 'node1'?), only node1",
        ),
        ({"exclude": "node[1"}, "exclude=node[1 is no list of nodes"),
        ({"licenses": "solver:3"}, "licenses=solver:3: this cluster has solver:2, not solver:3"),
        ({"gres": "gpu:v100:1"}, "gpu_type=v100: partition main has a100"),
        ({"gres": "gpu:5", "tasks_per_node": 5}, "gres=gpu:5, but a node of partition main has 4"),
        ({"gres": "nvme:1"}, "gres=nvme:1: partition main has no nvme, only gpu"),
        ({"memory_gb": 900}, "memory_gb=900 is 900 GB a node, and a node of partition main has 488"),
        ({"sbatch": ["--reservation=none"]}, "Slurm refuses the job: Requested reservation is invalid"),
        ({"nodes": 99}, "nodes=99, but partition main has 3"),
    ],
)
def test_a_profile_with_a_mistake_is_refused_by_one_line(cluster, recipe, tmp_path, capsys, keys, says):
    profile = changed(tmp_path, **keys)
    before = ask("squeue", "-h", "-t", "all")
    run = tmp_path / "run"
    assert main(["submit", str(recipe), "--profile", str(profile), "--run", str(run), "--json"]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "mine.yaml" in error and error.count("\n") == 0
    assert ask("squeue", "-h", "-t", "all") == before and not run.exists()


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.shards=/no/where", "/no/where"),
        ("text.encoder=/no/encoder", "/no/encoder"),
        ("targets=[gab]", "did you mean 'gap'"),
        ("train.batch=1", "2 processes"),
    ],
)
def test_a_recipe_that_cannot_run_is_refused(cluster, recipe, tmp_path, capsys, override, says):
    words = ["submit", str(recipe), "--profile", str(PROFILE), "--run", str(tmp_path / "run"), "--json"]
    assert main([*words, override]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slurm
def test_dry_run_prints_the_script_and_the_plan(cluster, recipe, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["submit", str(recipe), "--profile", str(PROFILE), "--run", str(run), "--dry-run"]
    assert main([*words, "train.micro_batch=2"]) == 0
    shown = capsys.readouterr().out
    assert "#SBATCH --nodes=2" in shown and "srun --unbuffered" in shown and "submitit.core._submit" in shown
    assert "world size 2 (2 nodes x 1 ranks), global batch 8 = 2 molecules in a micro-batch x 2" in shown
    assert "memory per rank" in shown and "Slurm: Job" in shown
    assert not run.exists()


def test_without_slurm_it_says_where_to_go(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    words = ["submit", str(recipe), "--profile", str(PROFILE), "--run", str(tmp_path / "run"), "--json"]
    assert main(words) == 2
    assert "login node" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_inside_of_a_job_nothing_is_submitted(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    words = ["submit", str(recipe), "--profile", str(PROFILE), "--run", str(tmp_path / "run")]
    assert main(words) == 2
    assert "submit from a login node" in capsys.readouterr().err


@pytest.mark.slurm
def test_all_site_keys_are_accepted_together(cluster, recipe, tmp_path, capsys):
    """By Slurm itself; and the way in which a run starts again is that of the partition."""
    keys = {"gres": "gpu:a100:2", "tasks_per_node": 2, "mem_per_gpu": "40G", "exclude": "node3"}
    keys |= {"nodelist": "node[1-2]", "exclusive": True, "licenses": "solver:1", "partition": "cancelled"}
    words = [
        "submit",
        str(recipe),
        "--profile",
        str(changed(tmp_path, **keys)),
        "--run",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--json", "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "to start at" in told["slurm"] and "node[1-2]" in told["slurm"]
    assert told["restart"] == {"mode": "successor", "why": "PreemptMode of partition cancelled is CANCEL"}
    for line in ("--gres=gpu:a100:2", "--mem-per-gpu=40G", "--exclude=node3", "--exclusive", "--no-requeue"):
        assert f"#SBATCH {line}\n" in told["script"]
    assert "gpus-per-node" not in told["script"]
