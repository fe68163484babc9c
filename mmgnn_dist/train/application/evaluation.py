"""`mmgnn evaluate`: errors of an exported model on its test part, or on another shard set."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import may_write, read_json, write_json
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord, RunMetrics
from mmgnn_dist.train.application.apply import apply_export
from mmgnn_dist.train.application.conformal import IntervalQuality, interval_quality
from mmgnn_dist.train.application.strata import strata
from mmgnn_dist.train.application.text_coverage import missing_text
from mmgnn_dist.train.application.trained_on import trained_on, trained_on_note
from mmgnn_dist.train.checkpoint.export import in_trained_words, read_export, unseen
from mmgnn_dist.train.evaluate import Predictions
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.provenance import refuse_changed
from mmgnn_dist.train.report.baseline_verdict import baseline_verdict
from mmgnn_dist.train.report.class_metrics import CLASS_TITLES
from mmgnn_dist.train.report.plots import loss, share
from mmgnn_dist.train.report.scores import SCORE_TITLES, NumberScores, number_scores, run_scores
from mmgnn_dist.train.stored.recipe import has_data, sidecar_folder, stored_recipe

Named = dict[str, float | None]


@dataclass(frozen=True)
class Evaluated:
    """Errors of an exported model.

    Attributes:
        metrics: MAE by metric name, `test/mae/homo_eV`; None without a label.
        molecules: number of molecules.
        shards: path of their shard set.
        trained_on: number of them that the model was trained on; None if it does not say.
        unknown: metrics of the others, if there are both; the names as in `metrics`.
        notes: what is to be known of these molecules.
        verdict: whether the run beats the baselines on its own test part; "" for other molecules.
        intervals: by target, which share of the molecules that it was not trained on the intervals cover.
        strata: the same of their parts by size and by text (see `strata`), by target and part.
        scores: RMSE, R², rank correlation and largest error of each target that is a number.
    """

    metrics: Named
    molecules: int
    shards: Path
    trained_on: int | None = None
    unknown: Named = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    verdict: str = ""
    intervals: dict[str, IntervalQuality] = field(default_factory=dict)
    strata: dict[str, dict[str, IntervalQuality]] = field(default_factory=dict)
    scores: dict[str, NumberScores] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the errors as lines of text."""
        lines = [self.verdict] if self.verdict else []
        lines.append(f"{self.molecules} molecules of {self.shards}")
        if self.unknown:
            new = self.molecules - (self.trained_on or 0)
            lines.append(f"  {'':24s} {'all':12s} the {new} that it was not trained on")
        for name, mae in self.metrics.items():
            value = f"  {name:24s} {_shown(mae)}"
            lines.append(f"{value:39s} {_shown(self.unknown[name])}" if self.unknown else value)
        for name, scores in self.scores.items():
            told = zip(SCORE_TITLES[2:], scores.cells()[2:], strict=True)
            lines.append(f"  {name}: {', '.join(f'{title} {cell}' for title, cell in told)}")
        for name, found in self.intervals.items():
            lines.append(
                f"  {found.level:.0%} intervals of {name}: {found.width:.3g} {found.unit} wide, cover "
                f"{found.coverage:.1%} of {found.molecules}"
            )
            parts = [f"{part} {own.coverage:.1%}" for part, own in self.strata.get(name, {}).items()]
            lines += [f"    {', '.join(parts)}"] if parts else []
        return lines

    def coverages(self) -> dict[str, Any]:
        """Return the quality of the intervals, `intervals` and `strata`, and `scores` as plain values."""
        parts = {
            name: {part: vars(own) for part, own in found.items()} for name, found in self.strata.items()
        }
        found: dict[str, Any] = {
            "intervals": {name: vars(own) for name, own in self.intervals.items()},
            "strata": parts,
        }
        return found | {"scores": {name: vars(own) for name, own in self.scores.items()}}


def _shown(value: float | None) -> str:
    return "no label" if value is None else f"{value:.6g}"


def evaluate_run(folder: Path, data: Path | None, quiet: bool, out: Path | None = None) -> Evaluated:
    """Apply the exported model of a run to its test part, or to all molecules of another shard set.

    Without the shard set of a finished run, the errors are those that the run recorded at its end.

    Args:
        folder: run directory.
        data: another shard set; None for the test part of the run.
        quiet: show no progress on the terminal.
        out: folder for predictions and metrics on `data`; None: `evaluations/NAME/` of the run directory.

    Raises:
        UserError: the run is missing or not finished, the shard set has no target of the run, the data of
            the run has changed, or the folder cannot be written.
    """
    paths = RunDir(folder)
    if not paths.recipe.is_file():
        raise UserError(f"no run at {folder}: give a run directory made by 'mmgnn train'")
    recipe = stored_recipe(paths)
    if data is None and not has_data(recipe) and paths.metrics.is_file():
        return _recorded(paths, recipe)
    target = RunDir(out) if out else paths.evaluation(data.resolve().name if data else "")
    if data is not None:
        if not may_write(target.path):
            raise UserError(f"{target.path} cannot be written by you: give another place with --out DIR")
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shards": data})})
        recipe = in_trained_words(recipe, read_export(paths))
    else:
        refuse_changed({folder: recipe})
    with TemporaryDirectory(prefix="mmgnn-text-") as temporary:
        evaluated, predictions, ids = _evaluate(paths, recipe, data is not None, quiet, Path(temporary))
    if data is not None:
        predictions.save(target.predictions, ids, recipe.targets)
        record = {"shards": str(data), "molecules": evaluated.molecules, "metrics": evaluated.metrics}
        more = {
            "trained_on": evaluated.trained_on,
            "unknown": evaluated.unknown,
            "notes": evaluated.notes,
            **evaluated.coverages(),
        }
        write_json(target.metrics, record | more)
    return evaluated


def _evaluate(
    paths: RunDir, recipe: Recipe, whole: bool, quiet: bool, temporary: Path
) -> tuple[Evaluated, Predictions, np.ndarray]:
    """Return errors, predictions and ids; text sidecars that can be written nowhere else are temporary."""
    cache = sidecar_folder(recipe, paths)
    if cache is not None and not may_write(cache):
        data = recipe.data.model_copy(update={"cache": temporary})
        recipe = recipe.model_copy(update={"data": data})
    about = read_export(paths)
    inputs = open_inputs(recipe, whole=whole, run=paths, model=about)
    with Progress("evaluate", quiet=quiet) as progress:
        predictions = apply_export(paths.path, inputs, progress)
        known = trained_on(paths, inputs.shards, predictions.rows)
        learned = None if known is None else int(known.sum())
        notes = unseen(about, inputs.shards, predictions.rows)
        notes += trained_on_note(learned, len(predictions.rows))
        notes += missing_text(recipe, inputs.shards, about.get("learned_from")) if whole else []
        for note in notes:
            progress.say(note)
    names, targets = inputs.metrics, recipe.targets
    unknown: Named = {}
    new = predictions if known is None else _part(predictions, ~known)
    if known is not None and known.any() and not known.all():
        unknown = new.named_metrics("test", names, targets)
    evaluated = Evaluated(
        predictions.named_metrics("test", names, targets),
        molecules=len(predictions.rows),
        shards=inputs.shards.path,
        trained_on=learned,
        unknown=unknown,
        notes=notes,
        verdict="" if whole else _verdict(paths),
        intervals=interval_quality(new, about["units"], about.get("calibration", {})),
        strata=_strata(inputs, about, new),
        scores={
            name: number_scores(predictions.true[:, place], predictions.predicted[:, place])
            for place, name in enumerate(targets)
            if place not in inputs.heads.classed
        },
    )
    return evaluated, predictions, inputs.shards.ids(predictions.rows)


def _strata(
    inputs: Inputs, about: ExportRecord, predictions: Predictions
) -> dict[str, dict[str, IntervalQuality]]:
    """Return the quality of the intervals in each part of the molecules, by target and part."""
    found: dict[str, dict[str, IntervalQuality]] = {}
    for part, chosen in strata(inputs, predictions.rows).items():
        own = interval_quality(_part(predictions, chosen), about["units"], about.get("calibration", {}))
        for name, quality in own.items():
            found.setdefault(name, {})[part] = quality
    return found


def _part(predictions: Predictions, chosen: np.ndarray) -> Predictions:
    """Return the predictions of the molecules that are chosen, bool [n]."""
    return replace(
        predictions,
        rows=predictions.rows[chosen],
        true=predictions.true[chosen],
        predicted=predictions.predicted[chosen],
        probabilities={place: values[chosen] for place, values in predictions.probabilities.items()},
    )


def _recorded(paths: RunDir, recipe: Recipe) -> Evaluated:
    """Return the errors that a finished run recorded."""
    metrics: RunMetrics = read_json(paths.metrics)
    note = f"the shard set of the run is not at {recipe.data.shards}: these errors are those that it recorded"
    return Evaluated(
        metrics["metrics"],
        molecules=metrics["molecules"]["test"],
        shards=recipe.data.shards or Path(),
        notes=[note],
        verdict=_verdict(paths),
        scores=run_scores(paths) if paths.predictions.is_file() else {},
    )


def _verdict(paths: RunDir) -> str:
    """Say whether a finished run beats the baselines that it recorded; "" for one that is not finished."""
    if not paths.metrics.is_file():
        return ""
    found: RunMetrics = read_json(paths.metrics)
    shares = {}
    for name, value in found["metrics"].items():
        metric = name.removeprefix("test/")
        bases = [found["baselines"][f"{kind}/{metric}"] for kind in ("mean", "composition")]
        own, *others = (_loss(metric, one) for one in (value, *bases))
        shares[metric] = share(own, min(others))
    return baseline_verdict(shares)


def _loss(metric: str, value: float | None) -> float:
    """Return a recorded metric as an error of which less is better; NaN without a label."""
    title = CLASS_TITLES.get(metric.partition("/")[0], "")
    return math.nan if value is None else loss(title, value)
