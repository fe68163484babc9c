"""Differences in AUROC against scikit-learn, against DeLong's formula, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from mmgnn_dist.study.statistics.auroc_bootstrap import RunChances, auroc_differences, weighted_auroc


def made(rng, n, share=0.4, signal=1.0):
    """Classes and the scores of two models with the same AUROC that share half of their noise."""
    true = (rng.random(n) < share).astype(float)
    common = rng.standard_normal(n)
    return true, [signal * true + common + rng.standard_normal(n) for _ in range(2)]


def run_of(score, rows=None):
    chance = 1.0 / (1.0 + np.exp(-score))
    return RunChances(np.arange(len(score)) if rows is None else rows, np.stack([1.0 - chance, chance], 1))


def delong_error(true, first, second):
    """Standard error of the difference of two AUROCs (DeLong, DeLong and Clarke-Pearson 1988, equation 6)."""
    positive = true == 1
    parts = []
    for score in (first, second):
        ones, zeros = score[positive], score[~positive]
        ranks = rankdata(np.concatenate([ones, zeros]))
        of_ones = (ranks[: len(ones)] - rankdata(ones)) / len(zeros)
        of_zeros = 1.0 - (ranks[len(ones) :] - rankdata(zeros)) / len(ones)
        parts.append((of_ones, of_zeros))
    differences = [parts[1][side] - parts[0][side] for side in (0, 1)]
    return np.sqrt(sum(d.var(ddof=1) / len(d) for d in differences))


def test_the_score_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    true = np.concatenate([rng.integers(0, 3, 90).astype(float), [np.nan] * 5])
    chances = rng.dirichlet(np.ones(3), 95).round(2)  # ties
    chances /= chances.sum(1, keepdims=True)
    drawn = rng.integers(1, 4, (2, 95)).astype(float)
    for row, weights in enumerate(drawn):
        own = [roc_auc_score(true[:90] == k, chances[:90, k], sample_weight=weights[:90]) for k in range(3)]
        assert weighted_auroc(true, chances, drawn)[row] == pytest.approx(np.mean(own), abs=1e-12)
    pair, two = (true[:90] == 1).astype(float), chances[:90, :2]
    expected = roc_auc_score(pair, two[:, 1], sample_weight=drawn[0, :90])
    assert weighted_auroc(pair, two, drawn[:1, :90])[0] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(weighted_auroc(np.zeros(90), two, drawn[:, :90])).all()  # one class alone


@pytest.mark.parametrize(("n", "share"), [(150, 0.4), (400, 0.1)])
def test_the_standard_error_is_that_of_delong(n, share):
    true, (first, second) = made(np.random.default_rng(n), n, share)
    found = auroc_differences(
        true, [([run_of(first)], [run_of(second)])], np.zeros(n, int), np.arange(n), repeats=1500
    )
    assert found.estimate[0] == pytest.approx(roc_auc_score(true, second) - roc_auc_score(true, first))
    assert found.error[0] == pytest.approx(delong_error(true, first, second), rel=0.08)
    assert found.low[0] < found.estimate[0] < found.high[0]


def test_copies_of_a_molecule_are_one():
    """Every molecule four times: by identity nothing changes, as molecules the error halves."""
    true, scores = made(np.random.default_rng(3), 100)
    once = [run_of(score) for score in scores]
    more = [run_of(np.tile(score, 4)) for score in scores]
    one = auroc_differences(true, [([once[0]], [once[1]])], np.zeros(100, int), np.arange(100), repeats=400)
    folds = np.repeat([0, 1, 2, 3], 100)  # as a random split with four folds at its worst
    parts = [[RunChances(np.flatnonzero(folds == f), r.chances) for f in range(4)] for r in once]
    split = auroc_differences(np.tile(true, 4), [tuple(parts)], folds, np.tile(np.arange(100), 4), 400)
    assert split.error[0] == pytest.approx(one.error[0], rel=1e-9)
    copies = [
        auroc_differences(np.tile(true, 4), [([more[0]], [more[1]])], np.zeros(400, int), names, 400)
        for names in (np.tile(np.arange(100), 4), np.arange(400))
    ]
    assert copies[0].error[0] == pytest.approx(one.error[0], rel=1e-9)
    assert copies[1].error[0] == pytest.approx(one.error[0] / 2, rel=0.15)


def test_few_differences_are_found_where_there_is_none():
    rng, wrong = np.random.default_rng(8), []
    for _ in range(150):
        true, (first, second) = made(rng, 120)
        found = auroc_differences(
            true, [([run_of(first)], [run_of(second)])], np.zeros(120, int), np.arange(120), repeats=150
        )
        wrong.append(found.p[0] <= 0.05)
    assert np.mean(wrong) <= 0.09  # 0.05 and two standard deviations of 150 draws


def test_equal_models_differ_by_nothing():
    true, (score, _) = made(np.random.default_rng(1), 60)
    run = run_of(score)
    found = auroc_differences(true, [([run], [run])], np.zeros(60, int), np.arange(60), repeats=50)
    assert (found.estimate[0], found.low[0], found.high[0], found.p[0]) == (0.0, 0.0, 0.0, 1.0)
