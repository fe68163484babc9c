"""What a machine has: GPUs by the driver's own program, and the partition of Slurm that suits a run."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace

from mmgnn_dist.cluster.slurm import queries
from mmgnn_dist.errors import UserError

ANSWER = 20  # seconds within which the driver must answer


@dataclass(frozen=True)
class SlurmPartition:
    """A partition of Slurm.

    Attributes:
        name: its name.
        gpus: GPUs of a node.
        cpus: CPUs of a node.
        nodes: number of nodes.
        time: longest time of a job, as Slurm writes it.
        account: the account of the user, if there is just one.
    """

    name: str
    gpus: int
    cpus: int
    nodes: int
    time: str
    account: str | None = None


@dataclass(frozen=True)
class ThisMachine:
    """What this machine has.

    Attributes:
        gpus: GPUs of this machine.
        cpus: CPUs that this process may use.
        partition: the partition of Slurm that suits a run; None without Slurm.
        note: why nothing is known of Slurm though its programs are here, "" otherwise.
    """

    gpus: int
    cpus: int
    partition: SlurmPartition | None = None
    note: str = ""


def look_at_machine() -> ThisMachine:
    """Find out what this machine has, in some seconds and without loading torch."""
    cpus = len(os.sched_getaffinity(0))
    if not queries.here():
        return ThisMachine(count_gpus(), cpus)
    try:
        found = partitions(queries.must("sinfo", "-h", "-o", "%R|%G|%c|%D|%l"))
    except UserError as error:
        return ThisMachine(count_gpus(), cpus, note=f"Slurm is installed here, but: {error}")
    best = max(found, key=lambda one: (one.gpus, one.nodes * one.cpus), default=None)
    if best is not None:
        best = replace(best, account=_account())
    return ThisMachine(count_gpus(), cpus, best)


def _account() -> str | None:
    """Return the user's account; None if Slurm keeps none, or several."""
    try:
        told = queries.must(
            "sacctmgr", "-n", "-P", "show", "assoc", f"user={getpass.getuser()}", "format=account"
        )
    except UserError:  # without accounting, or without its program
        return None
    names = {line.strip() for line in told.splitlines() if line.strip()}
    return names.pop() if len(names) == 1 else None


def count_gpus() -> int:
    """Return the number of NVIDIA GPUs by `nvidia-smi -L`; 0 where it is missing or finds none."""
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        told = subprocess.run(
            ["nvidia-smi", "-L"], check=False, capture_output=True, text=True, timeout=ANSWER
        )
    except subprocess.TimeoutExpired:
        return 0
    return len(re.findall(r"^GPU \d+:", told.stdout, re.MULTILINE))


def partitions(text: str) -> list[SlurmPartition]:
    """Return the partitions that `sinfo -h -o '%R|%G|%c|%D|%l'` lists; of rows of one, the first counts."""
    found: dict[str, SlurmPartition] = {}
    for line in text.splitlines():
        name, gres, cpus, nodes, limit = line.strip().split("|")
        gpus = sum(int(count) for count in re.findall(r"\bgpu:(?:[^:,()]+:)?(\d+)", gres))
        one = SlurmPartition(name, gpus, int(cpus.rstrip("+")), int(nodes), limit)
        found.setdefault(name, one)
    return list(found.values())
