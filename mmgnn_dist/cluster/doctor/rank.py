"""What each process of an examination does: look at its node, see the others' findings, measure together.

Findings go to `FOLDER/rank_N.json`, then `FOLDER/done_N.json`. Ranks join only if none of them
has found a fault that would have them wait for ever.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmgnn_dist.cluster.doctor.line import Line, fail
from mmgnn_dist.cluster.doctor.network import disk, hosts, interface, plain, together
from mmgnn_dist.cluster.doctor.node import check_node
from mmgnn_dist.config import load_recipe
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.process import exit_now
from mmgnn_dist.run_dir import RunDir

PATIENCE = 90.0  # seconds for the others' findings
BLOCKING = ("GPUs", "interface", "host names", "packages")


class Examine:
    """What submitit pickles: the folder alone.

    Args:
        folder: on a shared disk, with `ask.json`: recipe, gpus (of a node), world.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self) -> str:
        """Examine as a task of a Slurm step."""
        from mmgnn_dist.cluster.slurm.supervisor import meet, rank_variables

        rank, folder = int(os.environ["SLURM_PROCID"]), Path(self.folder)
        os.environ.update(rank_variables(rank))
        examine(folder, rank, lambda: os.environ.update(meet(folder, rank) or {}))
        return "done"


def examine(folder: Path, rank: int, prepare: Any) -> None:
    """Write this rank's findings; `prepare` sets what torch.distributed needs, once it is known to work."""
    request = read_json(folder / "ask.json")
    recipe = load_recipe(RunDir(folder).recipe)
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    lines = []
    local = int(os.environ["LOCAL_RANK"])
    if local == 0:  # what is true of a node is said once
        lines += check_node(recipe, request["gpus"])
        lines += [*interface(), *hosts(), *disk(folder, rank)]
    write_json(folder / f"rank_{rank}.json", {"node": node, "lines": [asdict(line) for line in lines]})
    write_json(folder / f"done_{rank}.json", [asdict(line) for line in _join(folder, rank, request, prepare)])


def _join(folder: Path, rank: int, request: dict[str, Any], prepare: Any) -> list[Line]:
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
    exit_now(0)  # gloo's threads can abort an interpreter that ends
