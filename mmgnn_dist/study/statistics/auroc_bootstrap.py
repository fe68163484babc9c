"""Difference in AUROC of two models on the same test molecules: a paired bootstrap, stratified by fold.

The AUROC of a model is the mean over folds and seeds of that of its runs (one model's probabilities are never
ranked together with another's); with more than two classes it is the mean over the classes that occur, each
against the rest. Identities are resampled as in `bootstrap`, the same for all models. The standard error is
the standard deviation over the resamples; interval and p-value are Student's with one less than the number
of identities as degrees of freedom. DeLong's formula (1988, doi 10.2307/2531595) gives the same standard
error (tests/study/statistics/test_auroc_bootstrap.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgnn_dist.study.statistics.bootstrap import identity_strata, resamples
from mmgnn_dist.study.statistics.corrected_ttest import t_interval

REPEATS_OF_AUROC = 2000  # a standard error to 2 %; p-values have no floor, they are Student's


@dataclass(frozen=True)
class RunChances:
    """Probabilities of one run of a model.

    Attributes:
        rows: positions of the tested molecules among all of the study [m].
        chances: probability of each class [m, K].
    """

    rows: np.ndarray
    chances: np.ndarray


@dataclass(frozen=True)
class Differences:
    """Differences in a score of C comparisons, positive if the other model is better, each [C]."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    error: np.ndarray


def auroc_differences(
    true: np.ndarray,
    pairs: Sequence[tuple[Sequence[RunChances], Sequence[RunChances]]],
    folds: np.ndarray,
    identities: np.ndarray,
    repeats: int = REPEATS_OF_AUROC,
    seed: int = 0,
) -> Differences:
    """Compute the differences of pairs of models (reference, other), each given by its runs.

    Args:
        true: number of the class of each test molecule, NaN without a label [n].
        pairs: runs of the reference and of the other model of each comparison; both have the same folds.
        folds: fold of each molecule [n].
        identities: number of the identity of each molecule [n].
        repeats: number of resamples.
        seed: seed of the resamples.
    """
    drawn_together = identity_strata(folds, identities)
    count = len({id(run) for pair in pairs for side in pair for run in side})
    observed = np.ones((1, len(folds)))
    parts: list[np.ndarray] = []
    for weights in [[observed], *resamples([len(s) for s in drawn_together.strata], repeats, seed)]:
        of_row = weights[0] if not parts else _of_rows(weights, drawn_together.strata, drawn_together.unit)
        known: dict[int, np.ndarray] = {}
        for run in (run for pair in pairs for side in pair for run in side):
            if id(run) not in known:
                known[id(run)] = weighted_auroc(true[run.rows], run.chances, of_row[:, run.rows])
        assert len(known) == count
        sides = [[_mean(np.stack([known[id(run)] for run in side])) for side in pair] for pair in pairs]
        parts.append(np.stack([other - reference for reference, other in sides], -1))
    estimate, drawn = parts[0][0], np.concatenate(parts[1:])
    error = np.array([np.nanstd(c, ddof=1) if np.isfinite(c).sum() > 1 else np.nan for c in drawn.T])
    freedom = np.array(max(int(drawn_together.unit.max()), 1))
    half, p = t_interval(estimate, error, freedom)
    return Differences(estimate, estimate - half, estimate + half, p, error)


def weighted_auroc(true: np.ndarray, chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC of one run where each molecule counts as often as it is drawn, ties half.

    Args:
        true: number of the class of each molecule, NaN without a label [m].
        chances: probability of each class [m, K].
        weights: how often each molecule is drawn [R, m].

    Returns:
        AUROC of the second of two classes, else the mean over the classes that occur [R]; NaN where one class
        alone is drawn.
    """
    labelled = np.isfinite(true)
    classes, shown, drawn = true[labelled].astype(int), chances[labelled], weights[:, labelled]
    wanted = [1] if shown.shape[1] == 2 else np.unique(classes).tolist()
    if not len(classes) or not wanted:
        return np.full(len(weights), np.nan)
    return _mean(np.stack([_one_against_rest(classes == k, shown[:, k], drawn) for k in wanted]))


def _one_against_rest(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of drawn pairs (positive, negative) in the right order [R]."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))  # molecules of equal score are one step
    ordered, is_positive = weights[:, order], positive[order]
    ones, zeros = (np.add.reduceat(ordered * side, starts, axis=1) for side in (is_positive, ~is_positive))
    below = np.cumsum(zeros, axis=1) - zeros / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return (ones * below).sum(1) / (ones.sum(1) * zeros.sum(1))


def _of_rows(weights: list[np.ndarray], strata: list[np.ndarray], unit: np.ndarray) -> np.ndarray:
    """How often each row is drawn [R, n]."""
    of_unit = np.empty((len(weights[0]), int(unit.max()) + 1))
    for drawn, units in zip(weights, strata, strict=True):
        of_unit[:, units] = drawn
    return of_unit[:, unit]


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of the finite values; NaN if there is none."""
    finite = np.isfinite(values)
    count = finite.sum(0)
    total = np.where(finite, values, 0.0).sum(0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
