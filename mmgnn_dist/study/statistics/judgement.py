"""The judgement of one effect: does it hold for other molecules and for another training?

Two sources make an effect uncertain: the test molecules (`molecules`, a standard error by the bootstrap)
and the trainings (`Scatter`: training set and seed). The rule for both:

- The folds test different molecules: the spread of their effects has both sources in it. The interval is
  that over
  trainings, or that over molecules where it is wider.
- The replicates test the same molecules: their spread does not have the molecules in it. The variances add
  up,
  with the degrees of freedom of Satterthwaite (1946, doi 10.2307/3002019).

The p-value is the largest of that over molecules, over trainings and over both, so an effect that passes
holds for each. Fewer than `LEAST_RUNS` runs of an arm are not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgnn_dist.study.statistics.corrected_ttest import Scatter, t_interval

LEAST_RUNS = 3
POWER = 0.8


@dataclass(frozen=True)
class Judged:
    """Effects over molecules and trainings, each [...]; NaN where they are not judged.

    Attributes:
        estimate, low, high: mean effect over trainings and its 95 % interval.
        p: two-sided p-value of no effect.
        error: standard error of the effect.
        freedom: its degrees of freedom.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    error: np.ndarray
    freedom: np.ndarray


def judge(runs: Scatter, count: int, molecules: np.ndarray, p_molecules: np.ndarray, apart: bool) -> Judged:
    """Judge effects on a scale on which errors add up: log ratios of errors, differences of scores.

    Args:
        runs: effects over trainings, arrays [...].
        count: number of runs of an arm.
        molecules: standard error over test molecules [...].
        p_molecules: two-sided p-value over test molecules [...].
        apart: whether every unit (fold) tests other molecules.
    """
    estimate = runs.estimate
    nothing = np.full(np.shape(estimate), np.nan)
    if count < LEAST_RUNS or not runs.freedom:
        return Judged(estimate, nothing, nothing, nothing, nothing, nothing)
    freedom = np.full(np.shape(estimate), float(runs.freedom))
    half, p = t_interval(estimate, runs.error, freedom)
    if apart:
        error = np.maximum(runs.error, molecules)
        half = np.maximum(half, t_interval(estimate, molecules, np.array(np.inf))[0])
    else:
        error = np.sqrt(runs.error**2 + molecules**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(runs.error > 0, runs.freedom * (error / runs.error) ** 4, np.inf)
        half, p_sum = t_interval(estimate, error, freedom)
        p = np.maximum(p, p_sum)
    largest = np.maximum(p, p_molecules)
    return Judged(estimate, estimate - half, estimate + half, largest, error, freedom)


def detectable(error: np.ndarray, freedom: np.ndarray, level: float) -> np.ndarray:
    """Smallest effect that a two-sided t-test at `level` finds with probability `POWER` (approximately).

    The sum of two quantiles of Student's t (Lachin 1981, doi 10.1016/0197-2456(81)90001-5).
    """
    from scipy.stats import t as student

    return (student.ppf(1.0 - level / 2, freedom) + student.ppf(POWER, freedom)) * error
