"""Ranks: who am I, and the few things that ranks agree on.

The process group is torch's, taken over by DeepSpeed: NCCL where there is a GPU, else gloo. A launcher
(ours, torchrun, Slurm's through its own environment) sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT; without them the process is alone and needs no network at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from mmgnn_dist.errors import UserError
from mmgnn_dist.train.launch import LISTENING

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int
    world: int
    device: torch.device
    beat: Callable[[str], None] = lambda what: None

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            self.beat("waiting for all ranks")
            dist.barrier()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, in place."""
        if self.world > 1:
            self.beat("summing over ranks")
            dist.all_reduce(values)
        return values

    def everyone(self, value: Any) -> list[Any]:
        """Every rank's value on every rank."""
        if self.world == 1:
            return [value]
        out: list[Any] = [None] * self.world
        dist.all_gather_object(out, value)
        return out

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value on the first rank, an empty list on the others."""
        if self.world == 1:
            return [value]
        self.beat("gathering on the first rank")
        out: list[Any] | None = [None] * self.world if self.first else None
        dist.gather_object(value, out)
        return out or []


def set_deterministic(wanted: bool) -> None:
    """Let torch take only operations whose result is the same from run to run; before a GPU is used.

    On one CPU thread all that a step does is so anyway. On several threads, and on GPUs by atomic additions,
    sums (`index_add`, the backward pass of gathers) have no fixed order: these are replaced, attention goes
    without the kernel whose backward pass adds in any order, and an operation without such a form raises an
    error.
    """
    if wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(wanted)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_mem_efficient_sdp(not wanted)


def start_ranks(threads: int = 0, patience: float = 1800.0) -> Ranks:
    """Join the process group, choose the device, and set the number of CPU threads.

    Args:
        threads: CPU threads of this rank; 0 divides the cores among the ranks of this machine.
        patience: seconds that a rank waits for the others; torch's own limit, which names nobody, is longer.

    Raises:
        UserError: if a launcher set only some of the variables, or there is no GPU where one is asked for.
    """
    there = torch.cuda.is_available()
    if os.environ.setdefault("DS_ACCELERATOR", "cuda" if there else "cpu") == "cuda" and not there:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise UserError(
            f"DS_ACCELERATOR=cuda, but no GPU is seen here (CUDA_VISIBLE_DEVICES={seen}): ask for one, or "
            "set DS_ACCELERATOR=cpu"
        )
    present = [name for name in LAUNCHED if name in os.environ]
    if present and len(present) < len(LAUNCHED) and "RANK" in present:
        missing = sorted(set(LAUNCHED) - set(present))
        raise UserError(f"the launcher set {', '.join(present)} but not {', '.join(missing)}")
    launched = len(present) == len(LAUNCHED)
    rank = int(os.environ["RANK"]) if launched else 0
    world = int(os.environ["WORLD_SIZE"]) if launched else 1
    local = int(os.environ["LOCAL_RANK"]) if launched else 0
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(device)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // here))
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        limit = timedelta(seconds=patience + 60)
        store = _store(rank, world, limit) if launched else dist.HashStore()
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
    return Ranks(rank, world, device)


def _store(rank: int, world: int, limit: timedelta) -> dist.Store:
    """The store by which ranks meet: the first one's, unless the launcher (torchrun) has one already."""
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    listening = os.environ.pop(LISTENING, None)
    return dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, hosts, limit,
        multi_tenant=True, master_listen_fd=int(listening) if hosts and listening else None,
    )  # fmt: skip
