"""Steps of `mmgnn train` around a run: checks, twins, launch, table, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import EXIT_DONE, UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.engine import compute_type
from mmgnn_dist.train.inputs import open_inputs
from mmgnn_dist.train.launch import launch
from mmgnn_dist.train.ranks import Ranks, check_gpus, uses_gpus
from mmgnn_dist.train.report.plots import draw_comparison, loss, share
from mmgnn_dist.train.report.results import done, draw_curves
from mmgnn_dist.train.report.table import (
    ComparisonRow,
    comparison_rows,
    legend,
    print_table,
    write_run_report,
)
from mmgnn_dist.train.run import run
from mmgnn_dist.train.start.plan import plan_start
from mmgnn_dist.train.stored.claims import refuse_other
from mmgnn_dist.train.stored.recipe import has_data


@dataclass(frozen=True)
class TrainedTable:
    """Errors of a finished run and its twins.

    Attributes:
        run: run directory.
        rows: one row a target.
        title: title of the table.
        note: explanation of its columns.
        report: the same table as Markdown.
    """

    run: Path
    rows: list[ComparisonRow]
    title: str
    note: str
    report: Path

    def show(self) -> None:
        """Print the table on the terminal, and where everything is."""
        print_table(self.run, self.rows, self.title, self.note)
        print(f"run directory {self.run}, report {self.report}, pictures {RunDir(self.run).plots}")


def train_with_twins(
    recipe: Recipe, folder: Path, nproc: int, quiet: bool
) -> tuple[int, TrainedTable | None]:
    """Train a recipe and its twins, each in its own run directory below `twins/`.

    Args:
        recipe: recipe with its twins.
        folder: run directory of the recipe itself.
        nproc: ranks on this machine.
        quiet: show no progress on the terminal.

    Returns:
        Exit code of the first run that did not finish, else 0; and the table, None if a run did not finish.

    Raises:
        UserError: the input is wrong; nothing has been written yet.
    """
    check_gpus(nproc)
    verified = VerifiedFiles()
    verified.load(RunDir(folder).verified)
    planned = plan_runs(recipe, folder, verified, nproc)
    for run_folder, run_recipe in planned.items():
        run_recipe.save(RunDir(run_folder).recipe)
    for run_folder in planned:
        if nproc > 1:
            verified.save(RunDir(run_folder).verified)
            code = launch(run_folder, nproc)
            verified.load(RunDir(run_folder).verified)
        else:
            code = run(run_folder, quiet, verified)
        if code != EXIT_DONE:
            return code, None
    twins = [run_folder for run_folder in planned if run_folder != folder]
    return EXIT_DONE, _compare(recipe, folder, twins)


def _compare(recipe: Recipe, folder: Path, twins: list[Path]) -> TrainedTable:
    """Draw the pictures of a run beside its twins and write its report."""
    paths, rows = RunDir(folder), comparison_rows(folder, twins)
    shares: dict[str, list[float]] = {
        modality: [
            share(
                loss(row.unit, row.errors[modality]),
                min(loss(row.unit, row.mean), loss(row.unit, row.composition)),
            )
            for row in rows
        ]
        for modality in (recipe.model.modality, *recipe.twins)
    }
    draw_comparison(paths.plot("comparison"), [row.target for row in rows], shares)
    if twins or not paths.plot("learning_curve").is_file():  # a run draws its own curve as it ends
        draw_curves(folder, twins)
    found = read_json(paths.metrics)
    errors = "MAE" if all(found["units"].values()) else "Errors"
    title = f"{errors} on {found['molecules']['test']} test molecules"
    note = legend(folder, twins)
    return TrainedTable(
        run=folder, rows=rows, title=title, note=note, report=write_run_report(folder, rows, title, note)
    )


def plan_runs(
    recipe: Recipe, folder: Path, verified: VerifiedFiles | None = None, here: int | None = None
) -> dict[Path, Recipe]:
    """Make all checks and return the recipe of each run directory, of a recipe and its twins; write nothing.

    Runs that are done need no shard set: if it is gone, they are returned as they are.

    Args:
        recipe: recipe with its twins.
        folder: run directory of the recipe itself.
        verified: checksums of files that were read before; None reads every file.
        here: number of ranks that start on this machine, which is then checked too; None if they start
            elsewhere.

    Raises:
        UserError: the input is wrong, or a directory holds a run of another recipe.
    """
    if recipe.study is not None:
        raise UserError(f"{recipe.name} is a grid of runs (section study): train it with 'mmgnn study'")
    grouped = recipe.grouped(recipe.name) if recipe.twins else recipe
    planned = _with_twins(grouped, folder)
    if not has_data(recipe) and all(done(run, part) for run, part in planned.items()):
        return planned
    inputs = open_inputs(recipe, verified=verified)
    if here is not None:
        device = torch.device("cuda" if uses_gpus() else "cpu")
        compute_type(recipe, device)  # refuses a precision that this machine does not have
        inputs.training(None, Ranks(0, here, device))  # refuses a batch that these ranks cannot divide
    refuse_other(planned)
    for run_recipe in planned.values():
        # checks before hours of training that a matching width exists, and that a start fits
        own = replace(inputs, recipe=run_recipe)
        _ = own.matched
        plan_start(own)
    return planned


def _with_twins(recipe: Recipe, folder: Path) -> dict[Path, Recipe]:
    """Return the recipe of each run directory."""
    planned = {folder: recipe.model_copy(update={"twins": []})}
    for modality in recipe.twins:
        model = recipe.model.model_copy(update={"modality": modality})
        planned[RunDir(folder).twin(modality).path] = recipe.model_copy(update={"twins": [], "model": model})
    return planned
