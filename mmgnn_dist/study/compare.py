"""Comparisons of models by target: both intervals, p-values, and one score over all targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgnn_dist.study.collect import Model, Pair, Results
from mmgnn_dist.study.statistics.bootstrap import REPEATS, Gains, paired_gains
from mmgnn_dist.study.statistics.corrected_ttest import Retrained, corrected_t


@dataclass(frozen=True)
class Compared:
    """Gain of one model over another by target; arrays are [T].

    Attributes:
        reference, other: the models.
        test: gains with intervals over test molecules, and the replicates [R, T].
        runs: gains with intervals over trainings.
        counts: number of compared folds and seeds by target.
    """

    reference: Model
    other: Model
    test: Gains
    runs: Retrained
    counts: list[tuple[int, int]]


def compare_models(
    results: Results, wanted: list[tuple[Model, Model]], repeats: int = REPEATS
) -> list[Compared]:
    """Compare pairs (reference, other) on all targets; all pairs share the same resamples."""
    if not wanted:
        return []
    pairs = [results.pair(*models) for models in wanted]
    x, y = (np.concatenate([getattr(p, side) for p in pairs], axis=1) for side in ("reference", "other"))
    all_gains = paired_gains(x, y, results.folds, repeats)
    out = []
    for index, (models, pair) in enumerate(zip(wanted, pairs, strict=True)):
        columns = slice(index * len(results.targets), (index + 1) * len(results.targets))
        test = Gains(*(value[..., columns] for value in vars(all_gains).values()))
        out.append(Compared(*models, test, _retrained(pair), [first.shape for first, _ in pair.runs]))
    return out


def _retrained(pair: Pair) -> Retrained:
    """Corrected t-test of each target."""
    tests = []
    for first, second in pair.runs:
        if first.size:
            tests.append(corrected_t(first, second, pair.share))
        else:
            tests.append(Retrained(*(np.array(np.nan) for _ in range(4))))
    return Retrained(
        *(np.array([vars(test)[key] for test in tests]) for key in ("estimate", "low", "high", "p"))
    )


def relative_errors(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of both models: the mean over targets of error / MAE of the reference, each [n].

    The gain in this score is the mean gain over the targets. The error is NaN if a molecule has no label.
    """
    with np.errstate(invalid="ignore"):
        scale = _mean(pair.reference, 0)
        return _mean(pair.reference / scale, 1), _mean(pair.other / scale, 1)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of the finite values; NaN if there is none."""
    finite = np.isfinite(values)
    total, count = np.where(finite, values, 0.0).sum(axis), finite.sum(axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def mean_gain(results: Results, reference: Model, other: Model) -> tuple[float, float, float]:
    """Mean gain over the targets and the bounds of its interval (a), in percent."""
    x, y = relative_errors(results.pair(reference, other))
    gains = paired_gains(x[:, None], y[:, None], results.folds, repeats=2000)
    return float(gains.estimate[0]), float(gains.low[0]), float(gains.high[0])
