"""Cells on this machine: several processes, each of which imports once and runs one cell after the other.

A process that dies (killed, out of memory) costs its cell alone: the cell is written down as failed and
another process takes its place. When the study itself is killed, its processes end with it, so that the same
command finds all cells free. On a machine with GPUs every process has one of them.
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

# what a cell imports, whatever it trains
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
LINGER = 60.0  # seconds between asking a process to stop in order and ending it

Tell = Callable[[Path, str], None]


@dataclass
class CellWorker:
    """A process, its end of the line, and the cell that it runs."""

    process: BaseProcess
    line: Any
    cell: Path | None = None


def concurrent_cells(asked: int, threads: int) -> int:
    """How many cells run at a time: as asked, else one for each GPU, or for each share of the cores."""
    return asked or len(gpu_names()) or max(1, len(os.sched_getaffinity(0)) // max(1, threads))


def gpu_names() -> list[str]:
    """The GPUs that this process was given, as CUDA_VISIBLE_DEVICES names them: number, UUID or MIG part."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(k) for k in range(count)] if visible is None else [n.strip() for n in visible.split(",")]
    return names[:count]  # CUDA reads up to the first name that it does not know


def run_here(cells: list[Path], workers: int, logs: Path, tell: Tell) -> bool:
    """Run cells, several at a time.

    Args:
        cells: their run directories, in the order in which they start.
        workers: how many at a time.
        logs: folder for what libraries print.
        tell: called with each cell and its state when it ends.

    Returns:
        False if it was stopped in order: by a signal, or a cell that left at its deadline.
    """
    gpus = gpu_names()
    # said before DeepSpeed is imported, which else looks for a device and tells of it on standard output
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if gpus else "cpu")
    # a process that has used a GPU cannot be forked: there every worker imports for itself
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
            for number, worker in list(crew.items()):
                if worker.cell is None:
                    if not queue:
                        worker.line.close()  # the process ends
                        worker.process.join(LINGER)
                        del crew[number]
                        continue
                    worker.cell = queue.popleft()
                    with suppress(OSError):  # of a process that has died: what it would answer says so
                        worker.line.send(str(worker.cell))
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
                if state == STOPPED:  # its time is up: no other would come further
                    stopped = True
                    queue.clear()
    return not stopped


def _work(line: Any, log: Path, gpu: str | None) -> None:
    """Be a worker: run the cells whose folders come down the line until it closes."""
    os.setsid()  # Ctrl-C in a terminal reaches the study alone, which passes it on
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
    exit_now(0)  # gloo's threads can abort an interpreter that ends


def _end_with_parent() -> None:
    """End this process when the study has ended, killed or not."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    exit_now(1)
