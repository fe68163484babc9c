"""Gain of one model over another on the same test molecules: a paired bootstrap, stratified by fold.

With x and y the absolute errors of a molecule (means over seeds) of the reference and of the other model,
weighted so that every fold counts equally,

    theta = log(sum y / sum x),    gain = 100 (1 - exp(theta)) percent

Molecules are resampled within each fold, x and y together. Molecules of one identity (stereoisomers,
duplicates) are drawn together, and so is a molecule that several folds test; then the identities of all folds
are one stratum. The interval is studentised (bootstrap-t, Efron
and Tibshirani 1993, chapter 12; Hall 1988, doi 10.1214/aos/1176350933), with the standard error of theta by
the delta method in every resample. It keeps its level on small and skewed samples, on which the percentile
interval is too short (tests/study/statistics/test_calibration.py). It describes these trained models on
other molecules, not a new training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

REPEATS = 10_000  # p-values down to 2e-4, which Holm needs for tables of a hundred rows
ELEMENTS = 1 << 24  # largest number of weights in memory at a time


@dataclass(frozen=True)
class Gains:
    """Gains in percent of C comparisons, positive if the other model is better; NaN without molecules.

    Attributes:
        estimate, low, high: gains and bounds of their intervals, each [C].
        p: two-sided p-values of no gain [C].
        error: standard errors of theta [C].
        replicates: gains of the resamples [R, C].
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    error: np.ndarray
    replicates: np.ndarray


def paired_gains(
    reference: np.ndarray,
    other: np.ndarray,
    folds: np.ndarray,
    repeats: int = REPEATS,
    seed: int = 0,
    level: float = 0.95,
    by_fold: bool = True,
    identities: np.ndarray | None = None,
) -> Gains:
    """Compute the gains of C comparisons; all share one set of resamples, so replicates are paired.

    Args:
        reference: absolute errors of the reference [n, C]; NaN leaves a molecule out of a comparison.
        other: absolute errors of the other models, in the same form.
        folds: fold of each molecule [n].
        repeats: number of resamples.
        seed: seed of the resamples.
        level: level of the interval.
        by_fold: whether every fold counts equally; otherwise every molecule does, for groups that may be
            missing in a fold.
        identities: number of the identity of each molecule [n]; None: every row is another one.
    """
    x, y = _weighted(reference, other, folds, by_fold)
    drawn_together = identity_strata(folds, np.arange(len(folds)) if identities is None else identities)
    x, y = (_summed(side, drawn_together.unit) for side in (x, y))
    strata = drawn_together.strata
    moments = [
        np.stack([m for m in (x[s], y[s], x[s] ** 2, x[s] * y[s], y[s] ** 2)]).transpose(1, 0, 2)
        for s in strata
    ]  # per fold [n, 5, C]
    ones = [np.ones((1, len(s))) for s in strata]
    theta, error = _log_ratio(ones, moments)
    replicates, studentised = [], []
    for weights in resamples([len(s) for s in strata], repeats, seed):
        drawn, spread = _log_ratio(weights, moments)
        replicates.append(drawn)
        with np.errstate(divide="ignore", invalid="ignore"):
            studentised.append((drawn - theta) / spread)
    drawn, t = np.concatenate(replicates), np.concatenate(studentised)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = theta / error
    # a resample in which both models agree on every molecule has no information: it counts on both sides
    t = np.where(np.isfinite(t), t, 0.0)
    below, above = (1 + (t <= observed).sum(0)) / (repeats + 1), (1 + (t >= observed).sum(0)) / (repeats + 1)
    tail = (1.0 - level) / 2
    lower, upper = np.quantile(t, [tail, 1.0 - tail], axis=0)
    finite = np.isfinite(theta[0])

    def percent(log_ratio: np.ndarray) -> np.ndarray:
        return np.where(finite, 100.0 * -np.expm1(log_ratio), np.nan)

    same = (theta == 0.0) & (error == 0.0)  # equal predictions: the gain is exactly zero
    p = np.where(same, 1.0, np.minimum(1.0, 2.0 * np.minimum(below, above)))
    return Gains(
        percent(theta)[0],
        percent(theta - lower * error)[0],
        percent(theta - upper * error)[0],
        np.where(finite, p[0], np.nan),
        np.where(finite, error[0], np.nan),
        percent(drawn),
    )


@dataclass(frozen=True)
class Strata:
    """What is resampled: units of molecules that are drawn together, in strata.

    Attributes:
        unit: number of the unit of each row [n].
        strata: units of each stratum.
    """

    unit: np.ndarray
    strata: list[np.ndarray]

    @property
    def apart(self) -> bool:
        """Whether every stratum is one fold: no identity is tested in two of them."""
        return len(self.strata) > 1


def identity_strata(folds: np.ndarray, identities: np.ndarray) -> Strata:
    """Units are identities in the order of their first rows; strata are folds, or one if folds share any."""
    _, first, inverse = np.unique(identities, return_index=True, return_inverse=True)
    rank = np.empty(len(first), int)
    rank[np.argsort(first)] = np.arange(len(first))
    unit, own = rank[inverse], folds[np.sort(first)]
    if np.array_equal(own[unit], folds):
        return Strata(unit, [np.flatnonzero(own == fold) for fold in np.unique(folds)])
    return Strata(unit, [np.arange(len(own))])


def _summed(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Sum of the rows of each unit [units, C]."""
    if len(unit) == unit.max() + 1:
        return values
    order = np.argsort(unit, kind="stable")
    return np.add.reduceat(values[order], np.searchsorted(unit[order], np.arange(unit.max() + 1)), axis=0)


def _weighted(
    reference: np.ndarray, other: np.ndarray, folds: np.ndarray, by_fold: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Both errors, zero if one is missing; with `by_fold` divided by the count of molecules of the fold."""
    present = np.isfinite(reference) & np.isfinite(other)
    x, y = np.where(present, reference, 0.0), np.where(present, other, 0.0)
    if by_fold:
        for fold in np.unique(folds):
            rows = folds == fold
            count = np.maximum(present[rows].sum(0), 1)
            x[rows] /= count
            y[rows] /= count
    return x, y


def resamples(sizes: list[int], repeats: int, seed: int) -> Iterator[list[np.ndarray]]:
    """Yield how often each unit is drawn: per stratum an array [chunk, n], `repeats` rows in total."""
    generator = np.random.default_rng(seed)
    chunk = max(1, min(repeats, ELEMENTS // max(1, sum(sizes))))
    for start in range(0, repeats, chunk):
        rows = min(chunk, repeats - start)
        out = []
        for size in sizes:
            drawn = generator.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
            out.append(np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(float))
        yield out


def _log_ratio(weights: list[np.ndarray], moments: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute theta and its standard error in each resample.

    Args:
        weights: how often each molecule is drawn, per fold [R, n].
        moments: x, y, xx, xy, yy of each molecule, per fold [n, 5, C].

    Returns:
        Theta and standard error, both [R, C]. The variance is that of a ratio of sums over strata (delta
        method): with the influence psi = y / sum y - x / sum x of a molecule, it is the sum over folds of
        n / (n - 1) sum (psi - mean psi)^2.
    """
    sums = []
    for drawn, values in zip(weights, moments, strict=True):
        n, kinds, columns = values.shape
        sums.append((drawn @ values.reshape(n, kinds * columns)).reshape(-1, kinds, columns))
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = sum(s[:, 0] for s in sums), sum(s[:, 1] for s in sums)
        variance = 0.0
        for values, s in zip(moments, sums, strict=True):
            n = len(values)
            square = s[:, 4] / y**2 - 2.0 * s[:, 3] / (x * y) + s[:, 2] / x**2
            mean = (s[:, 1] / y - s[:, 0] / x) / n
            variance = variance + n / max(n - 1, 1) * np.maximum(square - n * mean**2, 0.0)
        return np.log(y / x), np.sqrt(variance)
