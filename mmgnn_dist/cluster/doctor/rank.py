"""One rank of an examination: check its node, read the findings of the others, measure together.

Findings are written to `FOLDER/rank_N.json`, then to `FOLDER/done_N.json`. The ranks join only if none of
them found a fault that would make them wait forever.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

from mmgnn_dist.cluster.doctor.line import Line, fail, warn
from mmgnn_dist.cluster.doctor.network import disk, hosts, interface, listeners, plain, together
from mmgnn_dist.cluster.doctor.node import check_node
from mmgnn_dist.config import load_stored_recipe
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.process import exit_now
from mmgnn_dist.run_dir import RunDir

PATIENCE = 90.0  # seconds for the others' findings
BLOCKING = ("GPUs", "interface", "host names", "packages")


class RankRequest(TypedDict):
    """`ask.json`: GPUs of a node, number of ranks, whether a job here sends itself back to the queue."""

    gpus: int
    world: int
    requeues: bool


class Examine:
    """Task that submitit pickles for each rank; it holds only the folder's path.

    Args:
        folder: folder of the examination on a shared disk, with the recipe and `ask.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self) -> str:
        """Examine this rank's node as a task of a Slurm step."""
        from mmgnn_dist.cluster.slurm.supervisor import meet, rank_variables

        rank, folder = int(os.environ["SLURM_PROCID"]), Path(self.folder)
        os.environ.update(rank_variables(rank))
        examine(folder, rank, lambda: os.environ.update(meet(folder, rank) or {}))
        return "done"


def examine(folder: Path, rank: int, prepare: Callable[[], object]) -> None:
    """Write this rank's findings.

    Args:
        folder: folder of the examination.
        rank: this rank.
        prepare: sets the variables that torch.distributed needs; called if no rank found a blocking fault.
    """
    request: RankRequest = read_json(folder / "ask.json")
    recipe = load_stored_recipe(RunDir(folder).recipe)
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    lines = []
    local = int(os.environ["LOCAL_RANK"])
    if local == 0:  # one rank checks the node for all ranks on it
        lines += check_node(recipe, request["gpus"])
        lines += [*interface(), *hosts(), *listeners(), *disk(folder, rank)]
        if request["requeues"] and shutil.which("scontrol") is None:
            cure = "set restart: successor in the profile"
            lines.append(warn("requeue", "no scontrol here to send a job back to the queue", cure))
    write_json(folder / f"rank_{rank}.json", {"node": node, "lines": [asdict(line) for line in lines]})
    write_json(folder / f"done_{rank}.json", [asdict(line) for line in _join(folder, rank, request, prepare)])


def _join(folder: Path, rank: int, request: RankRequest, prepare: Callable[[], object]) -> list[Line]:
    paths = [folder / f"rank_{number}.json" for number in range(request["world"])]
    end = time.monotonic() + PATIENCE
    while missing := [path.name for path in paths if not path.exists()]:
        if time.monotonic() > end:
            cure = "put run directories on a disk that all nodes share: --dir, --run"
            return [fail("shared disk", f"{missing[0]} of another node is not seen in {folder}", cure)]
        time.sleep(0.1)
    lines = [line for path in paths for line in read_json(path)["lines"]]
    stopping = sorted({line["what"] for line in lines if line["level"] == "FAIL"} & set(BLOCKING))
    if stopping:
        if rank:
            return []
        return [fail("all-reduce", "not tried", f"cure {', '.join(stopping)} first")]
    try:
        prepare()
        return together(rank, request["world"])
    except Exception as error:
        return [fail("all-reduce", plain(error), "set interface in the profile, and look at NCCL_DEBUG=INFO")]


if __name__ == "__main__":
    examine(Path(sys.argv[1]), int(os.environ["RANK"]), lambda: None)
    sys.stdout.flush()
    exit_now(0)  # gloo's threads can abort the interpreter at exit
