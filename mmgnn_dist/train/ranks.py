"""Ranks: who am I, and the few things that ranks agree on.

The process group is torch's, taken over by DeepSpeed: NCCL where there is a GPU, else gloo. A launcher
(ours, torchrun, Slurm's through its own environment) sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT; without them the process is alone and needs no network at all.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from mmgnn_dist.errors import UserError
from mmgnn_dist.signals import Stopped
from mmgnn_dist.train.launch import LISTENING

T = TypeVar("T")
POLL = 0.2  # seconds between two looks of a rank whether the first one is done
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

_stores: list[dist.Store] = []  # of the group that this process has joined, for all runs in it
_turns = itertools.count()  # likewise


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        beat: says what comes next.
        alive: says that it goes on (see `guards.HangWatchdog`).
        signals: stop signals so far.
        store: by which ranks meet that another process launched.
        turns: numbers what the first rank does alone, the same on all ranks, over all runs of a process.
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
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            self.beat("waiting for all ranks")
            dist.barrier()

    def stop_asked(self) -> bool:
        """Whether any rank was asked to stop; the same on all."""
        self.beat("agreeing whether to stop")
        return any(self.all_gather(bool(self.signals)))

    def run_on_rank0(self, what: str, work: Callable[[Callable[[], None]], T]) -> T | None:
        """Let the first rank do alone what may take hours, with the others waiting as long as it gets on.

        Args:
            what: is done.
            work: called with a function that it calls as it gets on.

        Returns:
            On the first rank what `work` does, on the others None.

        Raises:
            Stopped: if the first rank was asked to stop meanwhile, or failed, of which it tells itself.
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
            end = "not done"
            try:
                done = work(moved)
                end = "done"
            finally:
                if self.store:
                    self.store.set(key, end)
            self.beat(f"done: {what}")
            return done
        assert self.store
        self.beat(f"waiting for the first rank: {what}")  # one beat ahead of the rank that it waits for
        moves = 0
        while not self.store.check([key]):
            if (now := self.store.add(f"{key}: moves", 0)) != moves:
                moves = now
                self.alive()
            time.sleep(POLL)
        if self.store.get(key) != b"done":
            raise Stopped
        return None

    def all_reduce_sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, in place."""
        if self.world > 1:
            self.beat("summing over ranks")
            dist.all_reduce(values)
        return values

    def all_gather(self, value: Any) -> list[Any]:
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
        out: list[Any] | None = [None] * self.world if self.is_rank0 else None
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


def init_distributed(threads: int = 0, timeout: float = 1800.0) -> Ranks:
    """Join the process group, choose the device, and set the number of CPU threads.

    Args:
        threads: CPU threads of this rank; 0 divides the cores among the ranks of this machine.
        timeout: seconds that a rank waits for the others; torch's own limit, which names nobody, is longer.

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
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if torch.cuda.is_available():
        # Slurm may show each rank its own GPUs alone
        device = torch.device("cuda", local % torch.cuda.device_count())
        torch.cuda.set_device(device)
        if launched:
            os.environ["LOCAL_RANK"] = str(device.index)  # DeepSpeed chooses the device by it
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // here))
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        limit = timedelta(seconds=timeout + 60)
        store = _store(rank, world, limit) if launched else dist.HashStore()
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
        _stores.append(dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store))
    return Ranks(rank, world, device, store=_stores[-1] if _stores else None, turns=_turns)


def check_gpus(nproc: int) -> None:
    """See that there is a GPU for each of `nproc` ranks started here, or none at all.

    Raises:
        UserError: if some would share one, which NCCL does not take.
    """
    if torch.cuda.is_available() and nproc > (gpus := torch.cuda.device_count()):
        raise UserError(
            f"{nproc} ranks on a machine with {gpus} GPU(s): start one for each at most (--nproc {gpus}), or "
            "hide the GPUs to train on the CPU (CUDA_VISIBLE_DEVICES=)"
        )


def _store(rank: int, world: int, limit: timedelta) -> dist.Store:
    """The store by which ranks meet: the first one's, unless the launcher (torchrun) has one already."""
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
