"""The verbs of the command line for studies: study and report."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import EXIT_DONE, EXIT_FAULT, EXIT_STOPPED, UserError


def add_verbs(verbs: Any) -> argparse.ArgumentParser:
    """Add the parsers; returns that of `study`, to which others add places where its cells can run."""
    study = verbs.add_parser(
        "study", help="train a grid of models and report what text is worth, or continue"
    )
    study.add_argument("recipe", type=Path, metavar="RECIPE")
    study.add_argument(
        "overrides", nargs="*", metavar="key=value", help="override the recipe, e.g. train.epochs=5"
    )
    study.add_argument("--dir", type=Path, metavar="DIR", help="study directory (default runs/NAME)")
    study.add_argument("--cells", action="store_true", help="check everything, list the cells, and stop")
    study.add_argument(
        "--cell", type=int, metavar="I", help="run cell number I alone, as job scripts of your own do"
    )
    study.add_argument("--json", action="store_true", help="print one JSON object")
    study.set_defaults(action=run_verb, runner=None)
    report = verbs.add_parser("report", help="the report of a study, finished or not")
    report.add_argument("study", type=Path, metavar="DIR", help="study directory")
    report.add_argument("--json", action="store_true", help="print one JSON object")
    report.set_defaults(action=_report)
    return study


def run_verb(arguments: argparse.Namespace) -> int:
    """`mmgnn study`, its cells run by `arguments.runner` (called as `run_study`), or on this machine."""
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.progress import Progress, quiet_libraries

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    quiet_libraries()
    folder = arguments.dir or Path("runs") / recipe.name
    from mmgnn_dist.study.grid import save_grid
    from mmgnn_dist.study.run import plan_study, run_study, states
    from mmgnn_dist.study.run_cell import DONE, FAILED

    if arguments.cell is not None:
        return _one(arguments, folder, recipe)
    cells = plan_study(recipe, folder)
    if not arguments.cells:
        save_grid(folder, recipe, cells)
        with Progress(recipe.name, quiet=arguments.json) as progress:
            finished = (arguments.runner or run_study)(folder, cells, recipe, progress)
    found = states(folder, list(cells))
    counts = Counter(found.values())
    if arguments.json:
        listed = [{"number": c.number, "name": c.name, "state": s} for c, s in found.items()]
        print(json.dumps({"study": str(folder), "states": counts, "cells": listed}))
    elif arguments.cells:
        for cell, how in found.items():
            print(f"{cell.number:5d}  {how:8s} {cell.name}")
    if arguments.cells:
        return EXIT_DONE
    if counts[DONE]:
        _write(folder, arguments.json)
    if not finished and counts[DONE] < len(cells):
        if not arguments.json:
            print(f"stopped: {counts[DONE]} of {len(cells)} cells are done; the same command continues")
        return EXIT_STOPPED
    return EXIT_FAULT if counts[FAILED] else EXIT_DONE


def _one(arguments: argparse.Namespace, folder: Path, recipe: Any) -> int:
    """Run one cell in this process; the study directory is made if it is not there."""
    from mmgnn_dist.study.run import laid_out
    from mmgnn_dist.study.run_cell import DONE, FAILED, failure_line, run_cell

    cells = laid_out(recipe, folder)
    if not 0 <= arguments.cell < len(cells):
        raise UserError(
            f"--cell {arguments.cell}: the study has cells 0 to {len(cells) - 1} ('--cells' lists them)"
        )
    place = cells[arguments.cell].run(folder)
    how = run_cell(place, quiet=arguments.json)
    if arguments.json:
        print(json.dumps({"cell": arguments.cell, "run": str(place), "state": how}))
    if how == FAILED:
        raise UserError(f"{place.name} failed: {failure_line(place)}")
    return EXIT_DONE if how == DONE else EXIT_STOPPED


def _report(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.progress import quiet_libraries

    quiet_libraries()
    _write(arguments.study, arguments.json)
    return EXIT_DONE


def _write(folder: Path, quiet: bool) -> None:
    from mmgnn_dist.study.report.report import write_study_report

    written = write_study_report(folder)
    if not quiet:
        for line in written.lines:
            print(line)
        print(
            f"report {written.page}, {written.markdown}; numbers {written.numbers}; figures {written.figures}"
        )
