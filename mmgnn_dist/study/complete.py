"""A whole study: its plan, its cells, its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmgnn_dist.config import Recipe
from mmgnn_dist.progress import Progress
from mmgnn_dist.study.grid import Cell, save_grid
from mmgnn_dist.study.report.report import Written, write_study_report
from mmgnn_dist.study.run import plan_study, run_study, states
from mmgnn_dist.study.run_cell import DONE

Runner = Callable[[Path, dict[Cell, Recipe], Recipe, Progress], bool]


@dataclass(frozen=True)
class StudyOutcome:
    """What a study has come to.

    Attributes:
        folder: study directory.
        states: state of each cell.
        stopped: whether it was stopped in order before all cells were done; the same call continues.
        report: the report of the finished cells, None without any.
    """

    folder: Path
    states: dict[Cell, str]
    stopped: bool
    report: Written | None


def complete_study(recipe: Recipe, folder: Path, quiet: bool, runner: Runner = run_study) -> StudyOutcome:
    """Run all cells of a study that are not done, and write the report.

    Args:
        recipe: a recipe with a section `study`.
        folder: study directory.
        quiet: show no progress on the terminal.
        runner: runs the cells; by default on this machine.

    Raises:
        UserError: an input is wrong, or the directory holds cells of another recipe.
    """
    planned = plan_study(recipe, folder)
    save_grid(folder, recipe, planned)
    with Progress(recipe.name, quiet=quiet) as progress:
        finished = runner(folder, planned, recipe, progress)
    cells = states(folder, list(planned))
    done = sum(state == DONE for state in cells.values())
    report = write_study_report(folder) if done else None
    return StudyOutcome(folder, cells, not finished and done < len(cells), report)
