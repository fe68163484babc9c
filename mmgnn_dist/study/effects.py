"""One effect of a report: a gain in percent, or a difference in AUROC, with all that judges it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from mmgnn_dist.study.statistics.corrected_ttest import Scatter, t_interval
from mmgnn_dist.study.statistics.judgement import Judged, detectable


@dataclass(frozen=True)
class Effect:
    """Effect of one model over another; gains in percent, differences of AUROC as they are. NaN: unknown.

    Attributes:
        estimate: the effect, positive if the other model is better.
        test_low, test_high, test_p: interval and p-value over test molecules (these trained models).
        run_low, run_high, run_p: over trainings alone (paired t), for these test molecules.
        low, high, p: over molecules and trainings.
        molecules: standard error over test molecules.
        by_training: standard deviation between training sets.
        by_seed: standard deviation between seeds of one training set.
        error: standard error over molecules and trainings, on the scale of the test.
        freedom: its degrees of freedom.
        folds, seeds: number of compared folds and seeds.
        is_score: whether it is a difference in a score rather than a gain in percent.
    """

    estimate: float
    test_low: float
    test_high: float
    test_p: float
    run_low: float
    run_high: float
    run_p: float
    low: float
    high: float
    p: float
    molecules: float
    by_training: float
    by_seed: float
    error: float
    freedom: float
    folds: int
    seeds: int
    is_score: bool = False

    def detectable(self, level: float) -> float:
        """Smallest gain or difference that a test at `level` finds in four of five studies."""
        found = float(detectable(np.array(self.error), np.array(self.freedom), level))
        return found if self.is_score else 100.0 * -np.expm1(-found)

    def numbers(self, name: str) -> dict[str, float]:
        """Columns of the CSV, each named `over_NAME_...`."""
        shown = asdict(self)
        del shown["is_score"], shown["error"], shown["freedom"]
        named = {"estimate": "test_estimate", "low": "both_low", "high": "both_high", "p": "both_p"}
        named |= {"run_low": "runs_low", "run_high": "runs_high", "run_p": "runs_p"}
        return {f"over_{name}_{named.get(key, key)}": value for key, value in shown.items()}


@dataclass(frozen=True)
class OverMolecules:
    """An effect over test molecules: its interval, two-sided p-value and standard error."""

    estimate: float
    low: float
    high: float
    p: float
    error: float


def gain_effect(test: OverMolecules, runs: Scatter, judged: Judged, shape: tuple[int, ...]) -> Effect:
    """Make the effect of log ratios of errors; `test` has percent, and the error of the log ratio."""
    folds, seeds = shape
    half, run_p = t_interval(runs.estimate, runs.error, np.array(runs.freedom))
    return Effect(
        test.estimate,
        test.low,
        test.high,
        test.p,
        float(100.0 * -np.expm1(runs.estimate + half)),
        float(100.0 * -np.expm1(runs.estimate - half)),
        float(run_p),
        float(100.0 * -np.expm1(judged.high)),
        float(100.0 * -np.expm1(judged.low)),
        float(judged.p),
        100.0 * test.error,
        float(100.0 * runs.by_training),
        float(100.0 * runs.by_seed),
        float(judged.error),
        float(judged.freedom),
        folds,
        seeds,
    )


def score_effect(test: OverMolecules, runs: Scatter, judged: Judged, shape: tuple[int, ...]) -> Effect:
    """Make the effect of differences of a score of which more is better."""
    folds, seeds = shape
    half, run_p = t_interval(runs.estimate, runs.error, np.array(runs.freedom))
    return Effect(
        test.estimate,
        test.low,
        test.high,
        test.p,
        float(runs.estimate - half),
        float(runs.estimate + half),
        float(run_p),
        float(judged.low),
        float(judged.high),
        float(judged.p),
        test.error,
        float(runs.by_training),
        float(runs.by_seed),
        float(judged.error),
        float(judged.freedom),
        folds,
        seeds,
        is_score=True,
    )
