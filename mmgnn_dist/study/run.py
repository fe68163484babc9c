"""Execution of a study: from its recipe to finished cells; the same call continues an interrupted study.

    DIR/study.yaml, cells.json    the recipe, and the list of its cells
    DIR/cells/NAME/               run directory of a cell; failure.json says why it failed
    DIR/sessions.jsonl            one line per session: seconds, cells, nodes, energy
    DIR/report/                   see `report`

An executor (`run_here`, an array of Slurm jobs, Ray) gets run directories and leaves the state of each cell
in its directory; nothing else is passed between them.
"""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from mmgnn_dist.config import Recipe
from mmgnn_dist.progress import Progress
from mmgnn_dist.study.energy import EnergyMeter
from mmgnn_dist.study.grid import CELLS, Cell, load_grid, make_grid, save_grid
from mmgnn_dist.study.local import Tell, concurrent_cells, run_here
from mmgnn_dist.study.run_cell import DONE, cell_state, failure_line

SESSIONS = "sessions.jsonl"
# runs the cells of these folders and reports each when it ends; returns False if stopped in order
Executor = Callable[[list[Path], Tell], bool]


def plan_study(recipe: Recipe, folder: Path) -> dict[Cell, Recipe]:
    """Plan the cells of a study and make all checks that a run makes before training; write nothing.

    Raises:
        UserError: if an input is wrong, or if the directory holds cells of another recipe.
    """
    from mmgnn_dist.train.inputs import open_inputs
    from mmgnn_dist.train.start.plan import plan_start
    from mmgnn_dist.train.stored.claims import refuse_other

    cells = make_grid(recipe)
    refuse_other({cell.run(folder): part for cell, part in cells.items()})
    opened, matched = {}, set()
    for cell, part in cells.items():
        data = cell.arm, cell.variant, cell.targets, cell.fold
        if data not in opened:
            opened[data] = open_inputs(part, verify=False)  # `make_grid` has verified the shards
        kind = cell.backbone, cell.arm, cell.variant, cell.targets
        if kind not in matched:
            matched.add(kind)
            inputs = replace(opened[data], recipe=part)
            plan_start(inputs)
            _ = inputs.forms, inputs.matched  # an unfit backbone fails here, not after hours of training
    return cells


def laid_out(recipe: Recipe, folder: Path) -> list[Cell]:
    """Return the cells of a study directory; plan, check and write them unless it holds this study.

    Raises:
        UserError: as in `plan_study`.
    """
    if (folder / CELLS).is_file():
        stored, cells = load_grid(folder)
        if stored == recipe.absolute():
            return cells
    planned = plan_study(recipe, folder)
    save_grid(folder, recipe, planned)
    return list(planned)


def run_study(folder: Path, cells: dict[Cell, Recipe], recipe: Recipe, progress: Progress) -> bool:
    """Run the unfinished cells on this machine; return False if they were stopped in order.

    Raises:
        UserError: if the study directory cannot be written.
    """
    assert recipe.study is not None
    workers = concurrent_cells(recipe.study.workers, next(iter(cells.values())).train.threads)

    def here(waiting: list[Path], tell: Tell) -> bool:
        return run_here(waiting, workers, folder / "logs", tell)

    return run_cells(folder, list(cells), here, workers, [socket.gethostname()], progress)


def run_cells(
    folder: Path, cells: list[Cell], executor: Executor, workers: int, nodes: list[str], progress: Progress
) -> bool:
    """Run the unfinished cells of a study with an executor, and record time and energy of the session.

    The energy is that of this machine; it is left out if several `nodes` run cells.
    """
    waiting = [cell.run(folder) for cell in unfinished(folder, cells)]
    finished: Counter[str] = Counter({DONE: len(cells) - len(waiting)})
    if waiting and finished[DONE]:
        progress.say(f"{finished[DONE]} of {len(cells)} cells are done already")
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    started = time.monotonic()

    def tell(cell: Path, state: str) -> None:
        finished[state] += 1
        if text := failure_line(cell):
            progress.say(f"{cell.name} failed: {text}")
        progress(sum(finished.values()), len(cells), f"{cell.name} {state}")

    if not waiting:
        return True
    progress(finished[DONE], len(cells), f"{workers} at a time")
    with EnergyMeter() as meter:
        try:
            return executor(waiting, tell)
        finally:
            line = {
                "started": begun,
                "seconds": round(time.monotonic() - started, 1),
                "workers": workers,
                "cells": dict(finished),
                "nodes": nodes,
                "joules": meter.joules() if len(nodes) == 1 else {},
            }
            with open(folder / SESSIONS, "a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")


def unfinished(folder: Path, cells: Iterable[Cell]) -> list[Cell]:
    """Cells that are not done, in their order."""
    return [cell for cell in cells if cell_state(cell.run(folder)) != DONE]


def states(folder: Path, cells: list[Cell]) -> dict[Cell, str]:
    """State of each cell."""
    return {cell: cell_state(cell.run(folder)) for cell in cells}
