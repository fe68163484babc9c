"""Profiles: what is refused before anything is asked, what the script says, what Slurm's variables mean."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from mmgnn_dist.cluster.slurm.profile import Profile, load_profile
from mmgnn_dist.cluster.slurm.profile_check import _gpus, _minutes
from mmgnn_dist.cluster.slurm.script import JobLink, interpreter, mounts_of, parameters, setup
from mmgnn_dist.cluster.slurm.supervisor import rank_variables, tasks_per_node
from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError

SLURM = Path(__file__).parents[3] / "slurm"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("noddes: 2", "unknown key noddes (did you mean 'nodes'?)"),
        ("nodes: two", "nodes='two': input should be a valid integer"),
        ("time: 1:00:00", "time=3600"),
        ('time: "25 h"', "write HH:MM:SS or D-HH:MM:SS"),
        ('time: "00:00:00"', "is no time limit"),
        ("gpus_per_node: 4", "tasks_per_node=1 with gpus_per_node=4"),
        ("gpu_type: a100", "gpu_type=a100 without gpus_per_node"),
        ("gres: gpu", "gres='gpu' names no number of GPUs"),
        ("gres: gpu:4", "tasks_per_node=1 with gpus_per_node=4"),
        ("{gres: gpu:4, gpus_per_node: 2}", "gres=gpu:4 says otherwise than gpus_per_node=2"),
        ("mem_per_gpu: 40G", "mem_per_gpu=40G without GPUs: give memory_gb"),
        ("mem_per_gpu: 40 GB", "mem_per_gpu='40 GB' is no amount of memory: write it as 40G"),
        ("{gpus_per_node: 1, memory_gb: 9, mem_per_gpu: 9G}", "mem_per_gpu=9G and memory_gb together"),
        ('sbatch: ["--exclusive"]', "'--exclusive' is the profile's own"),
        ("restart: never", "restart='never'"),
        ("sbatch: [reservation=x]", "write --NAME=VALUE"),
        ('sbatch: ["--time=02:00:00"]', "'--time=02:00:00' is the profile's own"),
        ("container: {kind: docker, image: x}", "container.kind='docker'"),
        ("container: {kind: pyxis, image: x}\npython: /usr/bin/python3", "container.python"),
        ("- nodes", "a profile is a mapping"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, says):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_profile(tmp_path / "mine.yaml")
    message = str(caught.value)
    assert says in message and "mine.yaml" in message and "\n" not in message


def test_a_missing_profile_names_one(tmp_path):
    with pytest.raises(UserError, match="slurm/generic.yaml"):
        load_profile(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "minutes"), [("00:00:30", 1), ("00:10:00", 10), ("01:30:01", 91), ("2-01:00:00", 2940)]
)
def test_time_limits_are_whole_minutes(text, minutes):
    assert Profile(time=text).minutes == minutes


def test_every_key_of_a_shipped_profile_that_is_commented_out_is_right(tmp_path):
    """Taking the comments away gives a valid profile, one container at a time."""
    for path in SLURM.glob("*.yaml"):
        lines = path.read_text().splitlines()
        keys = [f"# {name}:" for name in Profile.model_fields]
        optional = [line[2:] for line in lines if line.startswith(tuple(keys))]
        given = yaml.safe_load(path.read_text())
        for line in optional:
            Profile.model_validate({**given, **yaml.safe_load(line)})
        if path.stem == "generic":
            named = {*given, *(key for line in optional for key in yaml.safe_load(line))}
            assert named == set(Profile.model_fields)


def test_what_slurm_says():
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1] and tasks_per_node("4") == [4]
    assert _gpus("gpu:a100:4(S:0-1),gpu:v100:2") == [("a100", "4"), ("v100", "2")]
    assert _gpus("gpu:8") == [("gpu", "8")] and _gpus("(null)") == []
    assert [_minutes(text) for text in ("infinite", "2-00:00:00", "4:00:00", "30:00")] == [
        None,
        2880,
        240,
        30,
    ]


def test_a_rank_finds_its_place(monkeypatch):
    variables = {"SLURM_STEP_TASKS_PER_NODE": "4,3(x2)", "SLURM_NODEID": "2", "SLURM_LOCALID": "1"}
    for name, value in (variables | {"SLURM_NTASKS": "10"}).items():
        monkeypatch.setenv(name, value)
    expected = {"RANK": "8", "LOCAL_RANK": "1", "WORLD_SIZE": "10", "LOCAL_WORLD_SIZE": "3"}
    assert rank_variables(8) == expected


def test_the_profile_stands_in_the_script(tmp_path):
    profile = Profile(
        nodes=3,
        gpus_per_node=4,
        tasks_per_node=4,
        gpu_type="a100",
        modules=["cuda/12.8"],
        environment={"NAME": "two words"},
        interface="hsn0",
        cache=Path("/models"),
        sbatch=["--hold"],
        exclude="node7",
        exclusive="user",
        licenses="solver:2",
        mem_per_gpu="40G",
    )
    lines = setup(profile, JobLink("name"), [tmp_path / "a run"], tmp_path / "code")
    shell = "\n".join(lines[: lines.index("export PYTHONPATH=$code${PYTHONPATH:+:$PYTHONPATH}")])
    shell = shell.replace("module load", "echo module load")
    shell += '\necho "$run|$NAME|$GLOO_SOCKET_IFNAME|$NCCL_SOCKET_IFNAME|$HF_HOME"'
    said = subprocess.run(["bash", "-euc", shell], check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == ["module load cuda/12.8", f"{tmp_path}/a run|two words|hsn0|hsn0|/models"]
    options = parameters(profile, JobLink("name"), [tmp_path], tmp_path, [])
    assert options["additional_parameters"] == {
        "requeue": True,
        "hold": True,
        "gpus-per-node": "a100:4",
        "exclude": "node7",
        "exclusive": "user",
        "licenses": "solver:2",
        "mem-per-gpu": "40G",
    }


@pytest.mark.parametrize(
    ("text", "gpus", "kind", "asked"),
    [
        ("gpu:4", 4, None, {"gres": "gpu:4"}),
        ("gpu:a100:4,nvme:1", 4, "a100", {"gres": "gpu:a100:4,nvme:1"}),
        ("nvme:1", 2, None, {"gres": "nvme:1", "gpus-per-node": "2"}),
    ],
)
def test_gpus_in_either_form(tmp_path, text, gpus, kind, asked):
    given = {} if text.startswith("gpu") else {"gpus_per_node": gpus}
    profile = Profile(gres=text, tasks_per_node=gpus, **given)
    assert (profile.gpus_per_node, profile.gpu_type) == (gpus, kind)
    options = parameters(profile, JobLink("name"), [tmp_path], tmp_path, [])
    assert options["additional_parameters"] == {"requeue": True, **asked}


def test_a_job_that_follows_waits_for_all_before_it(tmp_path):
    link = JobLink("small-0123", ("12", "13"))
    options = parameters(Profile(restart="successor"), link, [tmp_path], tmp_path, [])
    expected = {"no-requeue": True, "dependency": "afterany:12:13"}
    assert options["additional_parameters"] == expected and options["job_name"] == "small-0123-2"
    assert "previous=13" in options["setup"] and "submission=small-0123" in options["setup"]


def test_a_container_sees_what_the_run_reads_and_writes(tmp_path):
    base, shards, cache = (tmp_path / name for name in ("runs", "shards", "cache"))
    shards.mkdir(), cache.mkdir()
    image = {"image": "/images/m.sif", "mounts": ["/data:/data"]}
    profile = Profile(gpus_per_node=1, cache=cache, container={"kind": "apptainer", **image})
    seen = mounts_of(profile, base, [Recipe(data={"shards": shards})])
    assert seen == [*(f"{path}:{path}" for path in (base, cache, shards)), "/data:/data"]
    words = interpreter(profile, "/usr/bin/python3", seen)
    binds = " ".join(f"--bind {mount}" for mount in seen)
    assert words == f"apptainer exec --nv {binds} /images/m.sif python3"
    profile = Profile(container={"kind": "pyxis", **image})
    assert interpreter(profile, "/usr/bin/python3", seen) == "python3"
    srun = parameters(profile, JobLink("n"), [base], tmp_path, seen)["srun_args"]
    assert srun[-2:] == ["--container-image=/images/m.sif", f"--container-mounts={','.join(seen)}"]
