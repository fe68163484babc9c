"""A study on Ray: one task for each cell, on all nodes of the allocation around it, or on this machine.

A cell trains in one worker, on the worker's threads and, where there are GPUs, on one GPU. If a worker dies,
only its cell fails. A signal stops the study in order: the running cells save, and the same command
continues. After a cell left at its deadline, or was stopped by another process, no further cell starts.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from mmgnn_dist.cluster.ray.allocation import ray_around
from mmgnn_dist.config import Recipe
from mmgnn_dist.data.prepare.ray_run import ray_here
from mmgnn_dist.errors import UserError
from mmgnn_dist.progress import Progress
from mmgnn_dist.signals import stop_flag
from mmgnn_dist.study.grid import Cell
from mmgnn_dist.study.local import LINGER, Tell
from mmgnn_dist.study.run import run_cells, unfinished
from mmgnn_dist.study.run_cell import DONE, STOPPED, cell_state, record_failure, run_cell


def run_on_ray(folder: Path, cells: dict[Cell, Recipe], recipe: Recipe, progress: Progress) -> bool:
    """Run the cells that are not done on Ray; returns False if the study was stopped in order.

    Raises:
        UserError: if there is no room for a cell, or not all nodes of the allocation join.
    """
    assert recipe.study is not None
    folder = folder.resolve()
    if not unfinished(folder, cells):  # there is no need to start Ray
        return True
    threads = max(part.train.threads for part in cells.values())
    with ray_around(), ray_here(len(os.sched_getaffinity(0))) as ray, stop_flag() as signals:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        needs, room = _room([node["Resources"] for node in nodes], threads)
        workers = min(room, recipe.study.workers or room)

        def on_ray(waiting: list[Path], tell: Tell) -> bool:
            return _run(ray, waiting, needs, workers, tell, signals)

        names = [node["NodeManagerHostname"] for node in nodes]
        return run_cells(folder, list(cells), on_ray, workers, names, progress)


def _room(nodes: list[dict[str, float]], threads: int) -> tuple[dict[str, int], int]:
    """Return the resources of a cell, and the number of cells that fit at a time.

    Raises:
        UserError: if no cell fits.
    """
    needs = {"CPU": threads, "GPU": int(any(node.get("GPU", 0) for node in nodes))}
    wanted = {kind: count for kind, count in needs.items() if count}
    room = sum(min(int(node.get(kind, 0) // count) for kind, count in wanted.items()) for node in nodes)
    if not room:
        most = max(int(node.get("CPU", 0)) for node in nodes)
        raise UserError(
            f"train.threads={threads}: a node of this Ray has {most} CPUs at most: lower it, or ask for more"
        )
    return needs, room


def _run(
    ray: Any, cells: list[Path], needs: dict[str, int], workers: int, tell: Tell, signals: list[int]
) -> bool:
    """Run cells, `workers` at a time; returns False if a signal or a cell's deadline stopped the study."""
    # no retries: what killed a worker may happen again; its cell is recorded as failed
    task = ray.remote(max_retries=0, num_cpus=needs["CPU"], num_gpus=needs["GPU"])(_cell)
    queue = deque(cells)
    running: dict[Any, Path] = {}
    asked_at, stopped = 0.0, False
    while queue or running:
        if signals and not asked_at:
            asked_at, stopped = time.monotonic(), True
            queue.clear()
            for ref in running:
                ray.cancel(ref)  # like Ctrl-C: the cell saves
        if asked_at and time.monotonic() > asked_at + LINGER:
            for ref in running:
                ray.cancel(ref, force=True)
        while queue and len(running) < workers:
            cell = queue.popleft()
            running[task.remote(str(cell), needs["GPU"])] = cell
        if not running:
            break
        for ref in ray.wait(list(running), timeout=0.3)[0]:
            cell = running.pop(ref)
            try:
                outcome = ray.get(ref)
            except ray.exceptions.RayError as error:
                outcome = DONE if cell_state(cell) == DONE else STOPPED
                if not asked_at:
                    outcome = record_failure(cell, f"its worker on Ray has died ({type(error).__name__})")
            tell(cell, outcome)
            if outcome == STOPPED:  # its time is up: no other cell would get further
                stopped = True
                queue.clear()
    return not stopped


def _cell(folder: str, gpus: int) -> str:
    """Train a cell in this worker; returns the state in which it ended."""
    os.environ["DS_ACCELERATOR"] = "cuda" if gpus else "cpu"
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides no GPU from a task that asks for none
    return run_cell(Path(folder))
