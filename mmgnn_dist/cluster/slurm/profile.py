"""A profile: where on a cluster to run. A site or queue has one YAML file in `slurm/`, typed like a recipe.

A recipe says what is computed and a profile says where, so that either can change without the other. A
profile does not repeat what Slurm can be asked (which partitions exist, how long a job may run).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mmgnn_dist.config.load import load_section
from mmgnn_dist.config.section import ConfigSection

OWN = {
    "account",
    "array",
    "constraint",
    "cpus-per-task",
    "dependency",
    "error",
    "exclude",
    "exclusive",
    "gpus-per-node",
    "gres",
    "job-name",
    "licenses",
    "mem",
    "mem-per-gpu",
    "no-requeue",
    "nodelist",
    "nodes",
    "ntasks-per-node",
    "open-mode",
    "output",
    "partition",
    "qos",
    "requeue",
    "signal",
    "time",
}
TIME = re.compile(r"(?:(\d+)-)?(\d{1,2}):(\d{2}):(\d{2})")
MEMORY = re.compile(r"\d+[KMGT]")
GPUS = re.compile(r"gpu:(?:([^:,(]+):)?(\d+)")  # gpu:4, gpu:a100:4


class Container(ConfigSection):
    """Run the ranks in a container image that holds Python and what mmgnn_dist needs."""

    kind: Literal["apptainer", "pyxis"]
    image: str = Field(description="file of the image, or for pyxis a name that enroot imports")
    mounts: list[str] = Field(
        [], description="further mounts SOURCE:TARGET, besides what the run reads and writes"
    )
    python: str = Field("python3", description="the interpreter in the image")


class Profile(ConfigSection):
    """Where to run: nodes, tasks, GPUs, time, and the environment of the ranks."""

    nodes: int = Field(1, ge=1)
    tasks_per_node: int = Field(1, ge=1, description="ranks on a node; with GPUs one for each")
    gpus_per_node: int = Field(0, ge=0)
    gpu_type: str | None = Field(None, description="as Slurm calls it: a100")
    gres: str | None = Field(
        None,
        description="GPUs as --gres instead of --gpus-per-node, for sites that want it: gpu:4, gpu:a100:4; "
        "also other resources of a node: gpu:4,nvme:1",
    )
    cpus_per_task: int = Field(1, ge=1)
    memory_gb: int | None = Field(None, ge=1, description="memory of a node; none: the partition's default")
    mem_per_gpu: str | None = Field(None, description="memory for each GPU instead of memory_gb: 40G")
    nodelist: str | None = Field(None, description="nodes that must be among those of the job: node[1-4]")
    exclude: str | None = Field(None, description="nodes that must not be among them: node7,node9")
    exclusive: bool | Literal["user", "mcs"] = Field(
        False, description="no other job on the nodes; user, mcs: none of another user, or MCS label"
    )
    licenses: str | None = Field(None, description="licences as Slurm counts them: solver:2")
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str = Field(
        "01:00:00", description="HH:MM:SS or D-HH:MM:SS, quoted (YAML takes 1:00:00 for a number)"
    )
    signal_lead: int = Field(90, ge=0, description="seconds before the end at which Slurm sends USR2")
    max_restarts: int = Field(20, ge=0, description="how often a run goes back to the queue")
    restart: Literal["auto", "requeue", "successor"] = Field(
        "auto",
        description="how a run starts again: its job goes back to the queue, or is followed by jobs sent "
        "with it, one for each of max_restarts; auto: as the site is set up",
    )
    modules: list[str] = Field([], description="environment modules to load with `module load`")
    setup: list[str] = Field([], description="shell lines on the first node before the ranks start")
    environment: dict[str, str] = Field({}, description="variables of the ranks")
    interface: str | None = Field(None, description="network interface of NCCL and GLOO: hsn0, ib0, lo")
    scratch: Path | None = Field(None, description="folder of temporary files, TMPDIR of the ranks")
    cache: Path | None = Field(None, description="folder of Hugging Face models, HF_HOME: must be shared")
    python: str | None = Field(None, description="interpreter on the nodes; none: the one that submits")
    container: Container | None = None
    sbatch: list[str] = Field([], description="more options of sbatch: --reservation=course")

    def for_one_task(self, time: str) -> Profile:
        """Return the profile of a job that only collects results: one task, without GPUs, of this time."""
        single = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 0, "exclusive": False, "time": time}
        dropped = ("gpu_type", "gres", "mem_per_gpu", "nodelist", "licenses")
        return self.model_copy(update=single | dict.fromkeys(dropped))

    @property
    def world(self) -> int:
        """Number of ranks on all nodes."""
        return self.nodes * self.tasks_per_node

    @property
    def minutes(self) -> int:
        """Time limit in whole minutes, rounded up."""
        match = TIME.fullmatch(self.time)
        assert match
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return (days * 24 + hours) * 60 + minutes + (seconds > 0)

    def models(self) -> dict[str, str]:
        """Return the Hugging Face variables, which the ranks and the checks on the login node share."""
        variables = {"HF_HUB_OFFLINE": "1"} | ({"HF_HOME": str(self.cache)} if self.cache else {})
        return variables | {key: value for key, value in self.environment.items() if key.startswith("HF_")}

    @field_validator("time", mode="after")
    @classmethod
    def _time(cls, value: str) -> str:
        match = TIME.fullmatch(value)
        if not match or not any(int(part or 0) for part in match.groups()):
            raise ValueError(f"time={value!r} is no time limit: write HH:MM:SS or D-HH:MM:SS, quoted")
        return value

    @field_validator("mem_per_gpu", mode="after")
    @classmethod
    def _memory(cls, value: str | None) -> str | None:
        if value is not None and not MEMORY.fullmatch(value):
            raise ValueError(f"mem_per_gpu={value!r} is no amount of memory: write it as 40G")
        return value

    @model_validator(mode="after")
    def _gpus_of_gres(self) -> Profile:
        """Take number and type of the GPUs from `gres`, where it names some."""
        match = GPUS.search(self.gres or "")
        if not match:
            if re.search(r"\bgpu\b", self.gres or ""):
                raise ValueError(f"gres={self.gres!r} names no number of GPUs: write gpu:4 or gpu:a100:4")
            return self
        kind, count = match[1], int(match[2])
        if self.gpus_per_node not in (0, count) or self.gpu_type not in (None, kind):
            raise ValueError(
                f"gres={self.gres} says otherwise than gpus_per_node={self.gpus_per_node}, "
                f"gpu_type={self.gpu_type}: leave those two out"
            )
        self.gpus_per_node, self.gpu_type = count, kind
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        if self.gpus_per_node and self.tasks_per_node != self.gpus_per_node:
            raise ValueError(
                f"tasks_per_node={self.tasks_per_node} with gpus_per_node={self.gpus_per_node}: "
                "every GPU has one rank, give both the same number"
            )
        if self.mem_per_gpu and (self.memory_gb or not self.gpus_per_node):
            raise ValueError(
                f"mem_per_gpu={self.mem_per_gpu} "
                + ("and memory_gb together: give one" if self.memory_gb else "without GPUs: give memory_gb")
            )
        if self.gpu_type and not self.gpus_per_node:
            raise ValueError(f"gpu_type={self.gpu_type} without gpus_per_node: say how many")
        for line in self.sbatch:
            if not line.startswith("--"):
                raise ValueError(f"sbatch: '{line}' is no option: write --NAME=VALUE")
            if line[2:].partition("=")[0] in OWN:
                raise ValueError(
                    f"sbatch: '{line}' is the profile's own or is set by mmgnn submit: leave it out"
                )
        if self.container and self.python:
            raise ValueError("python and container together: the interpreter of an image is container.python")
        return self


def load_profile(path: Path) -> Profile:
    """Read and check a profile.

    Raises:
        UserError: if anything is wrong with it; the message is one line.
    """
    return load_section(path, Profile, "profile", "slurm/generic.yaml")
