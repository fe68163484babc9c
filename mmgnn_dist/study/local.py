"""Local execution of cells: several worker processes, each of which imports once and runs cells in turn.

If a worker dies (killed, out of memory), only its cell is affected: the cell is recorded as failed and a new
worker starts. If the study itself is killed, its workers end with it, so the same command finds no cell in
use. On a machine with GPUs every worker has one GPU.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mmgnn_dist.process import exit_now
from mmgnn_dist.signals import stop_flag
from mmgnn_dist.study.run_cell import STOPPED, record_failure, run_cell

# modules that every cell imports
LIBRARIES = (
    "torch",
    "deepspeed",
    "torch_geometric",
    "safetensors.torch",
    "pyarrow.parquet",
    "matplotlib.pyplot",
    "transformers.models.auto.modeling_auto",
    "mmgnn_dist.train.run",
)
LINGER = 60.0  # seconds between asking a worker to stop and killing it

Tell = Callable[[Path, str], None]


@dataclass
class CellWorker:
    """A worker process, our end of its pipe, and the cell that it runs."""

    process: BaseProcess
    line: Any
    cell: Path | None = None


def concurrent_cells(asked: int, threads: int) -> int:
    """Number of cells to run at a time: as asked, else one per GPU, or one per `threads` cores."""
    return asked or len(gpu_names()) or max(1, len(os.sched_getaffinity(0)) // max(1, threads))


def gpu_names() -> list[str]:
    """Names of the GPUs of this process as in CUDA_VISIBLE_DEVICES: number, UUID or MIG instance."""
    import torch

    from mmgnn_dist.train.ranks import uses_gpus

    count = torch.cuda.device_count() if uses_gpus() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(k) for k in range(count)] if visible is None else [n.strip() for n in visible.split(",")]
    return names[:count]  # CUDA ignores all names after the first unknown one


def run_here(cells: list[Path], workers: int, logs: Path, tell: Tell) -> bool:
    """Run cells on this machine, several at a time.

    Args:
        cells: run directories of the cells, in the order in which they start.
        workers: number of cells at a time.
        logs: folder for the output of libraries.
        tell: called with each cell and its state when the cell ends.

    Returns:
        False if the run was stopped in order: by a signal, or by a cell that reached its deadline.
    """
    gpus = gpu_names()
    # set before the import of DeepSpeed, which otherwise searches for a device and prints it
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if gpus else "cpu")
    # a process that has used a GPU cannot be forked: with GPUs every worker imports for itself
    context: Any = get_context("spawn" if gpus else "forkserver")
    if not gpus:
        context.set_forkserver_preload(list(LIBRARIES))
    logs.mkdir(parents=True, exist_ok=True)
    queue = deque(cells)

    def start(number: int) -> CellWorker:
        ours, theirs = context.Pipe()
        gpu = gpus[number % len(gpus)] if gpus else None
        process = context.Process(
            target=_work, args=(theirs, logs / f"worker_{number}.log", gpu), daemon=True
        )
        process.start()
        theirs.close()
        return CellWorker(process, ours)

    with stop_flag() as signals:
        crew = {number: start(number) for number in range(min(workers, len(cells)))}
        stop_asked, stopped = 0.0, False
        while crew:
            if signals and not stop_asked:
                stopped = True
                stop_asked = time.monotonic()
                queue.clear()
                for worker in crew.values():
                    worker.process.terminate()
            if stop_asked and time.monotonic() > stop_asked + LINGER:
                for worker in crew.values():
                    worker.process.kill()
            _hand_out(crew, queue)
            ready = connection.wait([w.line for w in crew.values()], timeout=0.2) if crew else []
            for number in [n for n, w in crew.items() if w.line in ready]:
                cell, crew[number].cell = crew[number].cell, None
                assert cell is not None
                try:
                    state = crew[number].line.recv()
                except EOFError:
                    process = crew.pop(number).process
                    process.join()
                    if stop_asked:
                        tell(cell, STOPPED)
                        continue
                    code = process.exitcode
                    tell(
                        cell,
                        record_failure(
                            cell, f"its process ended with exit code {code} (negative: the signal)"
                        ),
                    )
                    crew[number] = start(number)
                    continue
                tell(cell, state)
                if state == STOPPED:  # its time is up: no other cell would get further
                    stopped = True
                    queue.clear()
    return not stopped


def _hand_out(crew: dict[int, CellWorker], queue: deque[Path]) -> None:
    """Give each idle worker the next cell, and end those for which there is none."""
    for number, worker in list(crew.items()):
        if worker.cell is None:
            if not queue:
                worker.line.close()  # this ends the process
                worker.process.join(LINGER)
                del crew[number]
                continue
            worker.cell = queue.popleft()
            with suppress(OSError):  # a worker that has died is noticed when its answer is read
                worker.line.send(str(worker.cell))


def _work(line: Any, log: Path, gpu: str | None) -> None:
    """Main loop of a worker: run the cells whose folders arrive on the pipe until it closes."""
    os.setsid()  # Ctrl-C in a terminal reaches only the study, which passes it on
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            folder = line.recv()
        except EOFError:
            break
        line.send(run_cell(Path(folder)))
    sys.stdout.flush()
    exit_now(0)  # threads of gloo can abort an interpreter at its exit


def _end_with_parent() -> None:
    """End this process when the study ends, killed or not."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    exit_now(1)
