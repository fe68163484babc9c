"""`mmgnn submit` before anything is submitted: dry runs, shipped profiles, mistakes refused by one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from jobs import PROFILE, ask

from mmgnn_dist.cli import main
from mmgnn_dist.cluster.profile import load_profile
from mmgnn_dist.cluster.slurm import check_profile, check_script
from mmgnn_dist.cluster.submit import Plan
from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError

SLURM = PROFILE.parent
SHIPPED = sorted(SLURM.glob("*.yaml"))


def script(profile: Path, base: Path) -> str:
    return Plan(base, {base: Recipe()}, load_profile(profile), [], []).script(base / "code")


def changed(profile: Path, to: Path, **keys: object) -> Path:
    path = to / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | keys))
    return path


@pytest.mark.slurm
@pytest.mark.parametrize("profile", SHIPPED, ids=lambda path: path.stem)
def test_shipped_profiles_are_accepted_and_one_gpu_too_many_is_not(cluster, tmp_path, profile):
    check_profile(load_profile(profile), profile)
    assert "to start at" in check_script(script(profile, tmp_path), profile)
    many = changed(profile, tmp_path, gpus_per_node=5, tasks_per_node=5)
    with pytest.raises(UserError, match="gpus_per_node=5, but a node of .* has 4"):
        check_profile(load_profile(many), many)
    with pytest.raises(UserError, match="configuration is not available"):
        check_script(script(many, tmp_path), many)


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
        ({"container": {"kind": "apptainer", "image": "/no/image.sif"}}, "container.image=/no/image.sif"),
        ({"account": "nobody"}, "Slurm refuses the job: Invalid account"),
        ({"qos": "best"}, "Slurm refuses the job: Invalid qos"),
        ({"qos": "debug", "time": "01:00:00"}, "Slurm refuses the job"),
        ({"constraint": "h100"}, "Slurm refuses the job: Invalid feature"),
        ({"nodes": 99}, "Slurm refuses the job: Node count"),
    ],
)
def test_a_profile_with_a_mistake_is_refused_by_one_line(cluster, recipe, tmp_path, capsys, keys, says):
    profile = changed(PROFILE, tmp_path, **keys)
    before = ask("squeue", "-h", "-t", "all")
    run = tmp_path / "run"
    assert main(["submit", str(recipe), "--profile", str(profile), "--run", str(run), "--json"]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "mine.yaml" in error and error.count("\n") == 0
    assert ask("squeue", "-h", "-t", "all") == before and not (run / "recipe.yaml").exists()


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
