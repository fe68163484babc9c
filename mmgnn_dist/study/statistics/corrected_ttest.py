"""Gain over trainings: the corrected resampled t-test (Nadeau and Bengio 2003, doi 10.1023/A:1024068626366).

Folds share training molecules, so the spread over folds underestimates the spread over new training sets: the
variance of the mean of K folds is (1/K + n_test/n_train) s^2 instead of s^2/K. The S seeds of a fold share
all its molecules and are averaged first. As K S independent results they would have K S - 1 degrees of
freedom, but the differences between folds have K - 1, and a nominal 95 % interval covers 90 %
(tests/study/statistics/test_calibration.py). With one fold its seeds are the results, and the interval
describes a new training on the same molecules. With three folds (two degrees of freedom) it is wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Retrained:
    """Gain in percent, its interval and two-sided p-value, each [...]; from one run the latter are NaN."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def corrected_t(reference: np.ndarray, other: np.ndarray, share: float, level: float = 0.95) -> Retrained:
    """Compute the gain and its interval from the test errors of runs.

    Args:
        reference: MAE of each run of the reference [..., K folds, S seeds].
        other: MAE of each run of the other model, in the same form.
        share: ratio n_test / n_train of a fold.
        level: level of the interval.
    """
    from scipy.stats import t as student

    log_ratio = np.log(other / reference)
    units = log_ratio.mean(-1) if log_ratio.shape[-2] > 1 else log_ratio[..., 0, :]
    count = units.shape[-1]
    mean = units.mean(-1)
    if count < 2:
        nothing = np.full(mean.shape, np.nan)
        return Retrained(100.0 * -np.expm1(mean), nothing, nothing, nothing)
    error = np.sqrt((1.0 / count + share) * units.var(-1, ddof=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2.0 * student.sf(np.abs(mean) / error, count - 1)
    p = np.where((error == 0.0) & (mean == 0.0), 1.0, p)
    half = student.ppf((1.0 + level) / 2, count - 1) * error
    return Retrained(
        100.0 * -np.expm1(mean), 100.0 * -np.expm1(mean + half), 100.0 * -np.expm1(mean - half), p
    )
