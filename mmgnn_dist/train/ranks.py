"""The ranks of a run: this process among them, and their communication.

The process group is torch's, and DeepSpeed uses it too: NCCL with a GPU, else gloo. A launcher (ours,
torchrun, Slurm's through its own environment) sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
Without these variables there is a single process, which needs no network.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from mmgnn_dist.errors import UserError
from mmgnn_dist.signals import Stopped
from mmgnn_dist.train.launch import LISTENING

T = TypeVar("T")
POLL = 0.2  # seconds between two checks whether the first rank is done
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

_stores: list[dist.Store] = []  # store of the process group, shared by all runs of this process
_turns = itertools.count()  # also shared by all runs of this process


@dataclass(frozen=True)
class Ranks:
    """This process among all ranks.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        device: device on which this rank computes.
        beat: records the next action (see `guards.HangWatchdog`).
        alive: records that the action makes progress.
        signals: stop signals received so far.
        store: key-value store shared by launched ranks.
        turns: numbers of the actions of `run_on_rank0`, the same on all ranks, over all runs of a process.
    """

    rank: int
    world: int
    device: torch.device
    beat: Callable[[str], None] = lambda what: None
    alive: Callable[[], None] = lambda: None
    signals: Sequence[int] = ()
    store: dist.Store | None = None
    turns: Iterator[int] = field(default_factory=itertools.count)

    @property
    def is_rank0(self) -> bool:
        """Whether this is the rank that writes files and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            self.beat("waiting for all ranks")
            dist.barrier()

    def stop_asked(self) -> bool:
        """Whether any rank was asked to stop; the result is the same on all ranks."""
        self.beat("agreeing whether to stop")
        return any(self.all_gather(bool(self.signals)))

    def run_on_rank0(self, what: str, work: Callable[[Callable[[], None]], T]) -> T | None:
        """Run a task on the first rank only; it may take hours, and the others wait while it makes progress.

        Args:
            what: description of the task.
            work: the task; its argument is a function to call after each piece of progress.

        Returns:
            The result of `work` on the first rank, None on the others.

        Raises:
            Stopped: the first rank was asked to stop, or it failed (it raises its own error itself).
        """

        key = f"{next(self.turns)}: {what}"

        def moved() -> None:
            self.alive()
            if self.store:
                self.store.add(f"{key}: moves", 1)
            if self.signals:
                raise Stopped

        self.beat(what)
        if self.is_rank0:
            outcome = "not done"
            try:
                result = work(moved)
                outcome = "done"
            finally:
                if self.store:
                    self.store.set(key, outcome)
            self.beat(f"done: {what}")
            return result
        assert self.store
        self.beat(f"waiting for the first rank: {what}")  # one beat ahead of the first rank
        moves = 0
        while not self.store.check([key]):
            if (new_moves := self.store.add(f"{key}: moves", 0)) != moves:
                moves = new_moves
                self.alive()
            time.sleep(POLL)
        if self.store.get(key) != b"done":
            raise Stopped
        return None

    def all_reduce_sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over ranks, in place."""
        if self.world > 1:
            self.beat("summing over ranks")
            dist.all_reduce(values)
        return values

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks on the first rank, an empty list on the others."""
        if self.world == 1:
            return [value]
        self.beat("gathering on the first rank")
        values: list[Any] | None = [None] * self.world if self.is_rank0 else None
        dist.gather_object(value, values)
        return values or []


def set_deterministic(wanted: bool) -> None:
    """Make torch use only deterministic operations; call this before a GPU is used.

    On one CPU thread a step is deterministic anyway. On several threads, and on GPUs with atomic additions,
    sums (`index_add`, the backward pass of gathers) have no fixed order. Torch replaces these operations,
    attention does not use the kernel whose backward pass adds in any order, and an operation without a
    deterministic form raises an error.
    """
    if wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(wanted)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_mem_efficient_sdp(not wanted)


def init_distributed(threads: int = 0, timeout: float = 1800.0) -> Ranks:
    """Join the process group, choose the device, and set the number of CPU threads.

    Args:
        threads: CPU threads of this rank; 0 takes its cores, and its part of those that other ranks use too.
        timeout: seconds that a rank waits for the others; torch's own limit is longer, as it names no rank.

    Raises:
        UserError: a launcher set only some of the variables, or `DS_ACCELERATOR=cuda` and there is no GPU.
    """
    has_gpu = torch.cuda.is_available()
    accelerator = os.environ.setdefault("DS_ACCELERATOR", "cuda" if has_gpu else "cpu")
    if accelerator == "cuda" and not has_gpu:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise UserError(
            f"DS_ACCELERATOR=cuda, but no GPU is seen here (CUDA_VISIBLE_DEVICES={visible}): ask for one, or "
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
    if has_gpu and accelerator != "cpu":
        # Slurm may show each rank only its own GPUs
        device = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(device)
        if launched:
            os.environ["LOCAL_RANK"] = str(device.index)  # DeepSpeed chooses the device by this variable
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        limit = timedelta(seconds=timeout + 60)
        store = _store(rank, world, limit) if launched else dist.HashStore()
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
        _stores.append(dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store))
    torch.set_num_threads(threads or _threads(world))
    return Ranks(rank, world, device, store=_stores[-1] if _stores else None, turns=_turns)


def _threads(world: int) -> int:
    """Return the number of threads for which this rank has cores.

    A launcher may bind each rank to cores of its own, as Slurm does with `task/affinity`, or let all ranks of
    a machine use all of its cores: only cores that several ranks use are divided.
    """
    cores = os.sched_getaffinity(0)
    if world == 1:
        return len(cores)
    machine = _machine()
    everyone: list[Any] = [None] * world
    dist.all_gather_object(everyone, (machine, sum(1 << core for core in cores)))
    masks = [mask for other, mask in everyone if other == machine]
    return max(1, int(sum(Fraction(1, sum(mask >> core & 1 for mask in masks)) for core in cores)))


def _machine() -> str:
    """Return what the ranks of one machine have in common, in containers too: the number of its last boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # hidden in some sandboxes
        return socket.gethostname()


def uses_gpus() -> bool:
    """Whether runs compute on a GPU here: there is one, and `DS_ACCELERATOR` does not ask for the CPU."""
    return os.environ.get("DS_ACCELERATOR") != "cpu" and torch.cuda.is_available()


def check_gpus(nproc: int) -> None:
    """Check that this machine has a GPU for each of `nproc` ranks, or none.

    Raises:
        UserError: ranks would share a GPU, and NCCL does not support that.
    """
    if uses_gpus() and nproc > (gpus := torch.cuda.device_count()):
        raise UserError(
            f"{nproc} ranks on a machine with {gpus} GPU(s): start one for each at most (--nproc {gpus}), or "
            "hide the GPUs to train on the CPU (CUDA_VISIBLE_DEVICES=)"
        )


def _store(rank: int, world: int, limit: timedelta) -> dist.Store:
    """Connect to the store of the ranks; the first rank hosts it unless the launcher (torchrun) does."""
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    listening = os.environ.pop(LISTENING, None)
    return dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world,
        hosts,
        limit,
        multi_tenant=True,
        master_listen_fd=int(listening) if hosts and listening else None,
    )
