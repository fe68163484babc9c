"""Results of a run: predictions and metrics of the test part, and errors of simple baselines on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmgnn_dist.config import Recipe, load_stored_recipe
from mmgnn_dist.data.shardset.references import baselines, composition, labels
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import NamedMetrics, RunFacts, RunMetrics
from mmgnn_dist.train.evaluate import Predictions, mean_absolute_error, named_errors
from mmgnn_dist.train.inputs import Inputs, class_shares
from mmgnn_dist.train.metrics import metric_unit
from mmgnn_dist.train.provenance import same_recipe
from mmgnn_dist.train.report.class_baseline import logistic_probabilities
from mmgnn_dist.train.report.class_metrics import CLASS_TITLES, class_metrics
from mmgnn_dist.train.report.plots import draw_learning, draw_run
from mmgnn_dist.train.tracking.journal import read_journal

MOST_VECTORS = 2000  # enough to compare representations; 2 MB a run


def baseline_errors(inputs: Inputs, rows: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    """Compute the MAE of the mean predictor and of a linear fit on composition, fitted on the training part.

    Args:
        inputs: shard set, split and targets.
        rows: global rows [n].
        true: targets in units [n, T].

    Returns:
        Errors by name, `mean/mae/homo_eV` and `composition/mae/homo_eV`.
    """
    errors: dict[str, float | None] = {}
    heads, targets = inputs.heads, inputs.recipe.targets
    for name, values in baselines(inputs.shards, inputs.split["train"], rows, targets).items():
        mae = mean_absolute_error(true, values)[heads.numbers]
        errors |= named_errors(name, inputs.metrics, mae)
    for place in heads.classed:
        errors |= class_baselines(inputs, rows, true[:, place], place)
    return errors


def class_baselines(
    inputs: Inputs, rows: np.ndarray, true: np.ndarray, place: int
) -> dict[str, float | None]:
    """Compute the metrics of prevalence and of logistic regression on composition for one target.

    Args:
        inputs: shard set, split and targets.
        rows: global rows [n].
        true: number of the class of each molecule, NaN without a label [n].
        place: place of the target.

    Returns:
        Metrics by name, `mean/auroc/toxic` and `composition/auroc/toxic`.
    """
    train, name = inputs.split["train"], inputs.recipe.targets[place]
    shares = class_shares(inputs, place)
    y = labels(inputs.shards, train, [name])[:, 0]
    labelled = np.isfinite(y)
    atoms = composition(inputs.shards, train[labelled])
    fit = logistic_probabilities(
        atoms, y[labelled].astype(int), composition(inputs.shards, rows), len(shares)
    )
    found: dict[str, float | None] = {}
    for kind, chances in (("mean", np.tile(shares, (len(rows), 1))), ("composition", fit)):
        for metric, value in class_metrics(true, chances, shares).items():
            found[f"{kind}/{metric}/{name}"] = value if np.isfinite(value) else None
    return found


def write_results(folder: Path, inputs: Inputs, found: Predictions, facts: RunFacts) -> None:
    """Write predictions, plots and, last, the metrics with `facts`."""
    recipe, run = inputs.recipe, RunDir(folder)
    found.save(run.predictions, inputs.shards.ids(found.rows), recipe.targets)
    if recipe.train.save_vectors:
        found.save_vectors(run.vectors, MOST_VECTORS)
    draw_run(folder, recipe.targets, inputs.units, inputs.heads.classes)
    metrics: RunMetrics = {
        **inputs.origin,
        "modality": recipe.model.modality,
        **facts,
        "units": dict(zip(recipe.targets, inputs.units, strict=True)),
        "molecules": {part: len(rows) for part, rows in inputs.split.items()},
        "metrics": found.named_metrics("test", inputs.metrics, recipe.targets),
        "baselines": baseline_errors(inputs, found.rows, found.true),
    }
    write_json(run.metrics, metrics)
    draw_curves(folder, [])


def done(folder: Path, recipe: Recipe) -> bool:
    """Whether a run is complete: its results exist and belong to this recipe."""
    path = RunDir(folder).metrics
    return path.is_file() and same_recipe(folder, recipe, read_json(path)["recipe"])


def read_results(folder: Path) -> NamedMetrics:
    """Read the metrics of a finished run, with name and targets of its recipe."""
    run = RunDir(folder)
    recipe = load_stored_recipe(run.recipe)
    metrics: RunMetrics = read_json(run.metrics)
    return {"name": recipe.name, "targets": list(recipe.targets), **metrics}


def draw_curves(folder: Path, twins: list[Path]) -> None:
    """Draw the learning curves of a finished run and its twins into its `plots/`."""
    results = [read_results(run) for run in (folder, *twins)]
    journals = [read_journal(RunDir(run).journal) for run in (folder, *twins)]
    runs = {result["modality"]: journal for result, journal in zip(results, journals, strict=True)}
    shown = {name: title for name, title in metric_titles(results[0]).items() if "/auprc/" not in name}
    draw_learning(RunDir(folder).plot("learning_curve"), runs, shown)


def metric_titles(results: NamedMetrics) -> dict[str, str]:
    """Return the title of each test metric without its part: `mae/homo_eV` is MAE of homo (eV)."""
    titles = {}
    for name in results["metrics"]:
        metric, _, target = name.removeprefix("test/").partition("/")
        if metric in CLASS_TITLES:
            titles[f"{metric}/{target}"] = f"{CLASS_TITLES[metric]}, {target}"
        else:
            unit = next(
                f"{t} ({u})" for t, u in results["units"].items() if target == f"{t}_{metric_unit(u)}"
            )
            titles[f"{metric}/{target}"] = f"MAE, {unit}"
    return titles
