"""Steps of `mmgnn train` and `mmgnn evaluate` around a run: checks, twins, launch, table, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.config import Recipe, load_recipe
from mmgnn_dist.errors import EXIT_DONE, UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.export import load_export, unseen
from mmgnn_dist.train.evaluate import Predictions, named_errors, predict
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.launch import launch
from mmgnn_dist.train.provenance import refuse_changed
from mmgnn_dist.train.ranks import check_gpus, init_distributed
from mmgnn_dist.train.report.plots import draw_comparison, share
from mmgnn_dist.train.report.results import draw_curves
from mmgnn_dist.train.report.table import (
    ComparisonRow,
    comparison_rows,
    legend,
    print_table,
    write_run_report,
)
from mmgnn_dist.train.run import run
from mmgnn_dist.train.text_data import open_text_data


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
        print_table(self.rows, self.title, self.note)
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
    planned = plan_runs(recipe, folder, verified)
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
        modality: [share(row.errors[modality], min(row.mean, row.composition)) for row in rows]
        for modality in (recipe.model.modality, *recipe.twins)
    }
    draw_comparison(paths.plot("comparison"), [row.target for row in rows], shares)
    if twins or not paths.plot("learning_curve").is_file():  # a run draws its own curve as it ends
        draw_curves(folder, twins)
    title = f"MAE on {read_json(paths.metrics)['molecules']['test']} test molecules"
    note = legend(folder, twins)
    return TrainedTable(
        run=folder, rows=rows, title=title, note=note, report=write_run_report(folder, rows, title, note)
    )


def plan_runs(recipe: Recipe, folder: Path, verified: VerifiedFiles | None = None) -> dict[Path, Recipe]:
    """Make all checks and return the recipe of each run directory, of a recipe and its twins; write nothing.

    Args:
        recipe: recipe with its twins.
        folder: run directory of the recipe itself.
        verified: checksums of files that were read before; None reads every file.

    Raises:
        UserError: the input is wrong, or a directory holds a run of another recipe.
    """
    if recipe.study is not None:
        raise UserError(f"{recipe.name} is a grid of runs (section study): train it with 'mmgnn study'")
    inputs = open_inputs(recipe, verified=verified)
    if recipe.twins:
        recipe = recipe.grouped(recipe.name)
    planned = {folder: recipe.model_copy(update={"twins": []})}
    for modality in recipe.twins:
        model = recipe.model.model_copy(update={"modality": modality})
        planned[RunDir(folder).twin(modality).path] = recipe.model_copy(update={"twins": [], "model": model})
    refuse_other(planned)
    for run_recipe in planned.values():
        # checks before hours of training that a matching width exists
        _ = replace(inputs, recipe=run_recipe).matched
    return planned


@dataclass(frozen=True)
class Evaluated:
    """Errors of an exported model.

    Attributes:
        metrics: MAE by metric name, `test/mae/homo_eV`; None without a label.
        molecules: number of molecules.
        shards: path of their shard set.
    """

    metrics: dict[str, float | None]
    molecules: int
    shards: Path

    def lines(self) -> list[str]:
        """Return the errors as lines of text."""
        values = {name: "no label" if mae is None else f"{mae:.6g}" for name, mae in self.metrics.items()}
        return [
            f"{self.molecules} molecules of {self.shards}",
            *(f"  {name:24s} {value}" for name, value in values.items()),
        ]


def evaluate_run(folder: Path, data: Path | None, quiet: bool) -> Evaluated:
    """Apply the exported model of a run to its test part, or to all molecules of another shard set.

    With `data`, predictions and metrics go to `evaluations/NAME/` of the run directory.

    Args:
        folder: run directory.
        data: another shard set; None for the test part of the run.
        quiet: show no progress on the terminal.

    Raises:
        UserError: the run is missing or not finished, the shard set lacks targets of the run, or the data of
            the run has changed.
    """
    paths = RunDir(folder)
    if not paths.recipe.is_file():
        raise UserError(f"no run at {folder}: give a run directory made by 'mmgnn train'")
    recipe = load_recipe(paths.recipe)
    if data is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shards": data})})
    else:
        refuse_changed({folder: recipe})
    inputs = open_inputs(recipe, whole=data is not None)
    with Progress("evaluate", quiet=quiet) as progress:
        predictions = apply_export(folder, inputs, progress)
        for warning in unseen(read_json(paths.export_about), inputs.shards, predictions.rows):
            progress.say(warning)
    metrics = named_errors("test", inputs.metrics, predictions.mae())
    if data is not None:
        evaluation = paths.evaluation(data.name)
        predictions.save(evaluation.predictions, inputs.shards.ids(predictions.rows), recipe.targets)
        write_json(
            evaluation.metrics, {"shards": str(data), "molecules": len(predictions.rows), "metrics": metrics}
        )
    return Evaluated(metrics, molecules=len(predictions.rows), shards=inputs.shards.path)


def apply_export(folder: Path, inputs: Inputs, progress: Progress) -> Predictions:
    """Predict the test part of some inputs with the exported model of a run.

    Raises:
        UserError: the export is missing or altered, or the language model has changed.
    """
    ranks = init_distributed(inputs.recipe.train.threads)
    text = open_text_data(inputs, ranks, progress)
    model, scaler, _ = load_export(RunDir(folder), inputs.recipe, inputs.forms, text.source)
    loader = inputs.ordered("test", text.tokens, ranks)
    predictions = predict(model.to(ranks.device), loader, scaler.to(ranks.device), ranks, text.embeddings)
    assert predictions is not None  # there is one rank
    return predictions


def refuse_other(runs: dict[Path, Recipe]) -> None:
    """Check that existing run directories were made from these recipes and from the same data.

    Args:
        runs: recipe of each run directory; a directory need not exist.

    Raises:
        UserError: one of them was not, or a path cannot be a run directory.
    """
    for folder, recipe in runs.items():
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"{existing} is a file: give a directory for the run (--run DIR, --dir DIR)")
        if patterns := set("*?[]") & set(str(folder)):
            raise UserError(
                f"{folder}: DeepSpeed takes {' '.join(sorted(patterns))} for patterns and would find no "
                "checkpoint there again; give a directory without them (--run DIR, --dir DIR)"
            )
        if not RunDir(folder).recipe.is_file():
            continue
        other = load_recipe(RunDir(folder).recipe)
        if other.fingerprint() != recipe.fingerprint():
            keys = ", ".join(differences(other.identity_fields(), recipe.identity_fields()))
            raise UserError(
                f"{folder} holds a run of another recipe ({keys} differ): give another directory "
                "(--run DIR, for a study --dir DIR)"
            )
    refuse_changed(runs)


def differences(a: dict[str, Any], b: dict[str, Any], above: str = "") -> list[str]:
    """Return the dotted keys whose values differ."""
    keys = []
    for key in a.keys() | b.keys():
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            keys += differences(left, right, f"{above}{key}.")
        elif left != right:
            keys.append(above + key)
    return sorted(keys)
