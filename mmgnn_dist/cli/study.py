"""The command-line verbs for many runs: study, report and sweep."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgnn_dist.cli.cluster import add_stage, submit_cells
from mmgnn_dist.cli.common import Verbs, add_json, add_recipe, print_result, read_recipe, yaml_file
from mmgnn_dist.errors import EXIT_DONE, EXIT_FAULT, EXIT_STOPPED, UserError
from mmgnn_dist.progress import quiet_libraries

if TYPE_CHECKING:
    from mmgnn_dist.study.report.report import Written


def add_verbs(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    study = verbs.add_parser(
        "study", help="train a grid of models and report what text is worth, or continue"
    )
    add_recipe(study)
    study.add_argument("--dir", type=Path, metavar="DIR", help="study directory (default runs/NAME)")
    study.add_argument("--cells", action="store_true", help="check everything, list the cells, and stop")
    study.add_argument(
        "--cell", type=int, metavar="I", help="run only cell number I, for job scripts of your own"
    )
    study.add_argument(
        "--profile",
        type=yaml_file,
        metavar="FILE",
        help="submit the cells that are not done as a Slurm array: slurm/NAME.yaml",
    )
    study.add_argument("--concurrent", type=int, metavar="N", help="with --profile: cells at a time")
    study.add_argument(
        "--dry-run", action="store_true", help="with --profile: print the batch script and the plan, and stop"
    )
    add_stage(study)
    study.add_argument(
        "--ray",
        action="store_true",
        help="run the cells on Ray, on all nodes of the allocation or on this machine",
    )
    add_json(study)
    study.set_defaults(continues=True, action=_study)
    report = verbs.add_parser("report", help="write the report of a study, finished or not")
    report.add_argument("study", type=Path, metavar="DIR", help="study directory")
    add_json(report)
    report.set_defaults(action=_report)
    sweep = verbs.add_parser("sweep", help="search the space of a recipe, or continue where it stopped")
    add_recipe(sweep, "recipe with a section sweep, such as launch/sweep.yaml")
    sweep.add_argument("--dir", type=Path, metavar="DIR", help="folder of the sweep (default sweeps/NAME)")
    add_json(sweep)
    sweep.set_defaults(continues=True, action=_sweep)


def _study(arguments: argparse.Namespace) -> int:
    """Run the cells as the user asks: on this machine, on Ray, as a Slurm array, or only one of them."""
    ways = {
        "--profile": arguments.profile is not None,
        "--ray": arguments.ray,
        "--cells": arguments.cells,
        "--cell": arguments.cell is not None,
    }
    chosen = [name for name, is_given in ways.items() if is_given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} do not go together: give one of them")
    if not ways["--profile"] and (arguments.dry_run or arguments.stage or arguments.concurrent is not None):
        words = "--dry-run, --stage and --concurrent belong to a Slurm array"
        raise UserError(f"{words}: give --profile slurm/NAME.yaml")
    if ways["--profile"]:
        return submit_cells(arguments)
    if arguments.ray:
        return _run_on_ray(arguments)
    recipe = read_recipe(arguments)
    quiet_libraries()
    if ways["--cell"]:
        return _run_one(arguments, recipe)
    from mmgnn_dist.study.run import run_study

    return _list_cells(arguments, recipe) if arguments.cells else _run_cells(arguments, run_study)


def _list_cells(arguments: argparse.Namespace, recipe: Any) -> int:
    """Check the study and print its cells without writing anything."""
    from mmgnn_dist.study.run import plan_study, states

    folder = arguments.dir or Path("runs") / recipe.name
    cells = states(folder, list(plan_study(recipe, folder)))
    lines = [f"{cell.number:5d}  {state:8s} {cell.name}" for cell, state in cells.items()]
    print_result(arguments.json, _states(folder, cells), lines)
    return EXIT_DONE


def _run_cells(arguments: argparse.Namespace, runner: Callable[..., bool]) -> int:
    """Run all cells that are not done, and write the report."""
    recipe = read_recipe(arguments)
    quiet_libraries()
    from mmgnn_dist.study.complete import complete_study
    from mmgnn_dist.study.run_cell import DONE, FAILED

    folder = arguments.dir or Path("runs") / recipe.name
    outcome = complete_study(recipe, folder, arguments.json, runner)
    cells = outcome.states
    counts = Counter(cells.values())
    lines, result = [], _states(folder, cells)
    if outcome.report:
        lines += _report_lines(outcome.report)
        result["report"] = vars(outcome.report)
    if outcome.stopped:
        lines.append(f"stopped: {counts[DONE]} of {len(cells)} cells are done; the same command continues")
    print_result(arguments.json, result, lines)
    if outcome.stopped:
        return EXIT_STOPPED
    return EXIT_FAULT if counts[FAILED] else EXIT_DONE


def _run_on_ray(arguments: argparse.Namespace) -> int:
    """Run all cells on Ray."""
    from mmgnn_dist.cluster.ray.command import noted_command
    from mmgnn_dist.cluster.ray.study import run_on_ray

    folder = arguments.dir or Path("runs") / read_recipe(arguments).name
    with noted_command(folder, "study") as stop:
        code = _run_cells(arguments, run_on_ray)
        if code != EXIT_DONE:
            stop("stopped in order: the same command continues" if code == EXIT_STOPPED else "cells failed")
    return code


def _states(folder: Path, cells: dict[Any, str]) -> dict[str, Any]:
    """Return the state of each cell of a study, for `--json`."""
    listed = [{"number": cell.number, "name": cell.name, "state": state} for cell, state in cells.items()]
    return {"study": folder, "states": Counter(cells.values()), "cells": listed}


def _run_one(arguments: argparse.Namespace, recipe: Any) -> int:
    """Run one cell in this process; makes the study directory if it does not exist."""
    from mmgnn_dist.study.run import laid_out
    from mmgnn_dist.study.run_cell import DONE, FAILED, failure_line, run_cell

    folder = arguments.dir or Path("runs") / recipe.name
    cells = laid_out(recipe, folder)
    if not 0 <= arguments.cell < len(cells):
        raise UserError(
            f"--cell {arguments.cell}: the study has cells 0 to {len(cells) - 1} ('--cells' lists them)"
        )
    run = cells[arguments.cell].run(folder)
    state = run_cell(run, quiet=arguments.json)
    print_result(arguments.json, {"cell": arguments.cell, "run": run, "state": state}, [])
    if state == FAILED:
        raise UserError(f"{run.name} failed: {failure_line(run)}")
    return EXIT_DONE if state == DONE else EXIT_STOPPED


def _report(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    from mmgnn_dist.study.report.report import write_study_report

    written = write_study_report(arguments.study)
    print_result(arguments.json, vars(written), _report_lines(written))
    return EXIT_DONE


def _report_lines(written: Written) -> list[str]:
    """Return the main results of a report, and where it is."""
    files = f"numbers {written.numbers}; figures {written.figures}"
    return [*written.lines, f"report {written.page}, {written.markdown}; {files}"]


def _sweep(arguments: argparse.Namespace) -> int:
    recipe = read_recipe(arguments)
    quiet_libraries()
    folder = arguments.dir or Path("sweeps") / recipe.name
    from mmgnn_dist.cluster.ray.command import noted_command
    from mmgnn_dist.files import read_json
    from mmgnn_dist.sweep.leaderboard import print_leaderboard
    from mmgnn_dist.sweep.ledger import read_trials
    from mmgnn_dist.sweep.run import sweep

    with noted_command(folder, "sweep") as stop:
        code = sweep(recipe, folder, arguments.json)
        if code == EXIT_STOPPED:
            stop("stopped in order: the same command continues")
    assert recipe.sweep
    section = recipe.sweep

    def print_text() -> None:
        print_leaderboard(recipe, folder, read_trials(folder, section))
        if code == EXIT_STOPPED:
            print("stopped; the same command continues")

    leaderboard = read_json(folder / "leaderboard.json")
    print_result(arguments.json, {"sweep": folder, "done": code == EXIT_DONE, **leaderboard}, print_text)
    return code
