"""Steps of `mmgnn train` and `mmgnn evaluate` around a run: checks, twins, launch, table, report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.config import Recipe, load_recipe
from mmgnn_dist.errors import EXIT_DONE, UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.export import in_trained_words, load_export, unseen_elements
from mmgnn_dist.train.evaluate import Predictions, named_errors, predict
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.launch import launch
from mmgnn_dist.train.provenance import refuse_changed
from mmgnn_dist.train.ranks import check_gpus, init_distributed
from mmgnn_dist.train.report.plots import draw_comparison
from mmgnn_dist.train.report.results import draw_curves
from mmgnn_dist.train.report.table import comparison_rows, legend, print_table, write_run_report
from mmgnn_dist.train.run import run
from mmgnn_dist.train.text_data import open_text_data


def train_with_twins(recipe: Recipe, folder: Path, nproc: int, as_json: bool) -> int:
    """Train a recipe and its twins (each in its own run directory below `twins/`), then print the table.

    Returns:
        Exit code of the first run that did not finish, else 0.

    Raises:
        UserError: the input is wrong; nothing has been written yet.
    """
    check_gpus(nproc)
    paths = RunDir(folder)
    verified = VerifiedFiles()
    verified.load(paths.verified)
    planned = plan_runs(recipe, folder, verified)
    for run_folder, run_recipe in planned.items():
        run_recipe.save(RunDir(run_folder).recipe)
    for run_folder in planned:
        if nproc > 1:
            verified.save(RunDir(run_folder).verified)
            code = launch(run_folder, nproc)
            verified.load(RunDir(run_folder).verified)
        else:
            code = run(run_folder, as_json, verified)
        if code != EXIT_DONE:
            return code
    twins = [run_folder for run_folder in planned if run_folder != folder]
    rows = comparison_rows(folder, twins)
    modalities = [recipe.model.modality, *recipe.twins]
    draw_comparison(paths.plot("comparison"), rows, modalities)
    draw_curves(folder, twins)
    title = f"MAE on {read_json(paths.metrics)['molecules']['test']} test molecules"
    note = legend(folder, twins)
    report = write_run_report(folder, rows, title, note)
    if as_json:
        print(json.dumps({"run": str(folder), "table": rows}))
    else:
        print_table(rows, title, note)
        print(f"run directory {folder}, report {report}, pictures {paths.plots}")
    return EXIT_DONE


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


def evaluate_run(folder: Path, data: Path | None, as_json: bool) -> dict[str, float | None]:
    """Apply the exported model of a run to its test part, or to all molecules of another shard set.

    With `data`, predictions and metrics go to `evaluations/NAME/` of the run directory.

    Returns:
        MAE by metric name, `test/mae/homo_eV`.

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
        if paths.export_about.is_file():
            recipe = in_trained_words(recipe, read_json(paths.export_about))
    else:
        refuse_changed({folder: recipe})
    inputs = open_inputs(recipe, whole=data is not None)
    with Progress("evaluate", quiet=as_json) as progress:
        predictions = apply_export(folder, inputs, progress)
        if warning := unseen_elements(read_json(paths.export_about), inputs.shards, predictions.rows):
            progress.say(warning)
    metrics = named_errors("test", inputs.metrics, predictions.mae())
    if data is not None:
        evaluation = paths.evaluation(data.name)
        predictions.save(evaluation.predictions, inputs.shards.ids(predictions.rows), recipe.targets)
        write_json(
            evaluation.metrics, {"shards": str(data), "molecules": len(predictions.rows), "metrics": metrics}
        )
    if not as_json:
        print(f"{len(predictions.rows)} molecules of {inputs.shards.path}")
        for name, value in metrics.items():
            print(f"  {name:24s} {'no label' if value is None else f'{value:.6g}'}")
    return metrics


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
