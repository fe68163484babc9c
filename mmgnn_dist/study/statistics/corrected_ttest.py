"""Effects over trainings: the corrected resampled t-test and the components of the variance.

The test is that of Nadeau and Bengio (2003, doi 10.1023/A:1024068626366). A replicate is a training set
(fold) with a seed; its effect is a log ratio of errors or a difference of scores. Folds share training
molecules, so the spread over folds underestimates the spread over new training sets: the variance of the
mean of K folds is (1/K + n_test/n_train) s^2 instead of s^2/K. Where the training sets of the folds have no
molecule in common, the second term is zero. The S seeds of a fold share all its molecules and are averaged
first. As K S independent results they would have K S - 1 degrees of freedom, but the differences between
folds have K - 1, and a nominal 95 % interval covers 90 % (tests/study/statistics/test_calibration.py). With
one fold its seeds are the replicates, and the interval describes a new training on the same molecules. With
three folds (two degrees of freedom) it is wide.

The components of the variance are those of the one-way random model (Searle, Casella and McCulloch 1992,
chapter 3): seeds within folds, and folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scatter:
    """Mean effect over trainings and how the effects of single trainings scatter; arrays are [...].

    Attributes:
        estimate: mean effect.
        error: its standard error over training sets and seeds; NaN from one unit.
        freedom: degrees of freedom of `error`.
        by_training: standard deviation between training sets; with one seed it holds that of seeds too, NaN
            with one fold.
        by_seed: standard deviation between seeds of a fold; NaN with one seed.
    """

    estimate: np.ndarray
    error: np.ndarray
    freedom: int
    by_training: np.ndarray
    by_seed: np.ndarray


@dataclass(frozen=True)
class Retrained:
    """Gain in percent, its interval and two-sided p-value, each [...]; from one run the latter are NaN."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def scatter_of(effects: np.ndarray, share: float) -> Scatter:
    """Compute mean effect, standard error and components of the variance.

    Args:
        effects: effect of each replicate [..., K folds, S seeds].
        share: ratio n_test / n_train of a fold; 0 if the training sets are disjoint.
    """
    folds, seeds = effects.shape[-2:]
    units = effects.mean(-1) if folds > 1 else effects[..., 0, :]
    count = units.shape[-1]
    nothing = np.full(units.shape[:-1], np.nan)
    if count < 2:
        return Scatter(units.mean(-1), nothing, 0, nothing, nothing)
    between = units.var(-1, ddof=1)
    seed_variance = effects.var(-1, ddof=1).mean(-1) if seeds > 1 else nothing
    own = between - (seed_variance / seeds if seeds > 1 else 0.0)
    return Scatter(
        units.mean(-1),
        np.sqrt((1.0 / count + (share if folds > 1 else 0.0)) * between),
        count - 1,
        np.sqrt(np.maximum(own, 0.0)) if folds > 1 else nothing,
        np.sqrt(seed_variance),
    )


def corrected_t(reference: np.ndarray, other: np.ndarray, share: float, level: float = 0.95) -> Retrained:
    """Compute the gain and its interval from the test errors of runs.

    Args:
        reference: MAE of each run of the reference [..., K folds, S seeds].
        other: MAE of each run of the other model, in the same form.
        share: ratio n_test / n_train of a fold; 0 if the training sets are disjoint.
        level: level of the interval.
    """
    runs = scatter_of(np.log(other / reference), share)
    half, p = t_interval(runs.estimate, runs.error, np.array(runs.freedom), level)
    mean = runs.estimate
    return Retrained(
        100.0 * -np.expm1(mean), 100.0 * -np.expm1(mean + half), 100.0 * -np.expm1(mean - half), p
    )


def t_interval(
    estimate: np.ndarray, error: np.ndarray, freedom: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Half width of Student's interval and two-sided p-value of no effect; an exact zero has p = 1."""
    from scipy.stats import t as student

    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2.0 * student.sf(np.abs(estimate) / error, freedom)
        half = student.ppf((1.0 + level) / 2, freedom) * error
    return half, np.where((error == 0.0) & (estimate == 0.0), 1.0, p)
