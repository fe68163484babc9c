"""The statistics keep what they claim: coverage and false positives over a thousand studies made by chance.

A made study: molecules have an error that both models share and one of each model's own, some molecules are
harder than others (log-normal), in three folds. For retraining, the gain of each run scatters around the
expected one with the training set (the same for all seeds of a fold) and with the seed.
"""

from __future__ import annotations

import numpy as np
import pytest

from mmgnn_dist.study.statistics.bootstrap import paired_gains
from mmgnn_dist.study.statistics.corrected_ttest import corrected_t
from mmgnn_dist.study.statistics.significance import holm, marked

STUDIES = 1000
SCATTER = [(0.05, 0.0), (0.03, 0.03), (0.0, 0.05)]  # of the gain, by training set and by seed


def made(rng: np.random.Generator, molecules: int, studies: int, gain: float, hard: float):
    """Absolute errors of two models [molecules, studies]; the second's are smaller by `gain` on average."""
    shape = molecules, studies
    shared, difficulty = rng.standard_normal(shape), np.exp(hard * rng.standard_normal(shape))
    first, second = (np.abs(shared + 0.7 * rng.standard_normal(shape)) * difficulty for _ in range(2))
    return first, (1.0 - gain) * second


@pytest.mark.parametrize(("molecules", "hard"), [(150, 0.0), (300, 0.5), (1200, 0.5)])
def test_the_bootstrap_covers_a_known_gain(molecules, hard):
    rng = np.random.default_rng(molecules)
    found = paired_gains(*made(rng, molecules, STUDIES, 0.10, hard), np.arange(molecules) % 3, repeats=1000)
    assert 0.93 <= ((found.low <= 10.0) & (found.high >= 10.0)).mean() <= 0.97
    assert abs(np.median(found.estimate) - 10.0) < 1.0


@pytest.mark.parametrize(("molecules", "hard"), [(150, 0.0), (300, 0.5), (1200, 0.5)])
def test_without_a_gain_few_tests_are_significant(molecules, hard):
    rng = np.random.default_rng(1000 + molecules)
    found = paired_gains(*made(rng, molecules, STUDIES, 0.0, hard), np.arange(molecules) % 3, repeats=1000)
    assert (found.p <= 0.05).mean() <= 0.07
    outside = (found.low > 0.0) | (found.high < 0.0)
    assert np.mean(outside == (found.p <= 0.05)) > 0.99  # interval and p-value say the same


def test_without_a_gain_few_corrected_tables_have_a_mark():
    """Tables of 9 targets x 2 backbones; text is worth nothing against graph, nor against shuffled text."""
    rng, rows, molecules = np.random.default_rng(5), 18, 120
    any_uncorrected, any_corrected, any_marked = [], [], []
    for _ in range(10):
        studies = STUDIES // 10
        folds = np.arange(molecules) % 3
        graph, both = made(rng, molecules, rows * studies, 0.0, 0.5)
        shuffled = made(rng, molecules, rows * studies, 0.0, 0.5)[1]
        tested = [paired_gains(r, both, folds, repeats=1500) for r in (graph, shuffled)]
        p = np.stack([t.p for t in tested], -1).reshape(studies, rows, 2)
        gains = np.stack([t.estimate for t in tested], -1).reshape(studies, rows, 2)
        any_uncorrected += [(table[:, 0] <= 0.05).any() for table in p]
        any_corrected += [(holm(table[:, 0]) <= 0.05).any() for table in p]
        any_marked += [marked(g, table)[1].any() for g, table in zip(gains, p, strict=True)]
    assert np.mean(any_uncorrected) > 0.4  # what the correction is for
    assert np.mean(any_corrected) <= 0.07
    assert np.mean(any_marked) <= 0.07


def runs(rng, folds, seeds, by_fold, by_seed, studies=STUDIES):
    """MAE of graph and both [studies, folds, seeds]; the gain is 10 % in expectation (of its logarithm)."""
    shape = studies, folds, seeds
    level = np.exp(0.1 * rng.standard_normal(shape))
    scatter = by_fold * rng.standard_normal((studies, folds, 1)) + by_seed * rng.standard_normal(shape)
    return level, level * np.exp(np.log(0.9) + scatter)


DESIGNS = [
    (folds, seeds, *scatter) for folds, seeds in [(3, 1), (3, 3), (5, 2), (10, 1)] for scatter in SCATTER
]


@pytest.mark.parametrize(("folds", "seeds", "by_fold", "by_seed"), [*DESIGNS, (1, 5, 0.0, 0.05)])
def test_the_corrected_t_covers_the_gain_of_retraining(folds, seeds, by_fold, by_seed):
    rng = np.random.default_rng(7)
    found = corrected_t(*runs(rng, folds, seeds, by_fold, by_seed), share=1.0 / max(folds - 1, 2))
    assert ((found.low <= 10.0) & (found.high >= 10.0)).mean() >= 0.94


def test_seeds_of_a_fold_are_no_independent_results():
    """What averaging them first is for: taken as nine folds, three seeds of three folds cover too little."""
    first, second = runs(np.random.default_rng(7), 3, 3, 0.05, 0.0)
    found = corrected_t(first.reshape(-1, 9, 1), second.reshape(-1, 9, 1), share=0.5)
    assert ((found.low <= 10.0) & (found.high >= 10.0)).mean() < 0.93


@pytest.mark.parametrize("folds", [3, 10])
def test_the_corrected_t_covers_where_folds_share_their_training_molecules(folds):
    """Nadeau and Bengio's case: the gains of two folds correlate as n_test / (n_test + n_train)."""
    rng, share = np.random.default_rng(11), 1.0 / (folds - 1)
    correlation = share / (1.0 + share)
    common = correlation**0.5 * rng.standard_normal((STUDIES, 1, 1))
    own = (1.0 - correlation) ** 0.5 * rng.standard_normal((STUDIES, folds, 1))
    both = 0.9 * np.exp(0.04 * (common + own))
    found = corrected_t(np.ones_like(both), both, share)
    assert ((found.low <= 10.0) & (found.high >= 10.0)).mean() >= 0.94
    naive = corrected_t(np.ones_like(both), both, 0.0)
    assert ((naive.low <= 10.0) & (naive.high >= 10.0)).mean() < 0.93  # what the correction is for


def test_holm_equals_its_definition():
    """Against the step-down procedure as Holm writes it."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        p = rng.random(12) ** 3
        adjusted = holm(p)
        for level in (0.01, 0.05, 0.2):
            rejected = np.zeros(12, bool)
            for step, place in enumerate(np.argsort(p)):
                if p[place] > level / (12 - step):
                    break
                rejected[place] = True
            assert np.array_equal(adjusted <= level, rejected)
    assert np.isnan(holm(np.array([0.01, np.nan]))[1]) and holm(np.array([0.01, np.nan]))[0] == 0.01


def test_a_row_is_marked_only_if_text_beats_graph_and_shuffled_text():
    gains = np.array([[10.0, 10.0], [10.0, -1.0], [10.0, 1.0], [10.0, np.nan], [-9.0, -9.0]])
    p = np.array([[1e-4, 1e-4], [1e-4, 1e-4], [1e-4, 0.5], [1e-4, np.nan], [1e-4, 1e-4]])
    corrected, found = marked(gains, p)
    assert found.tolist() == [True, False, False, False, False]
    assert corrected[0] == pytest.approx(4e-4) and np.isnan(corrected[3])


def test_the_bootstrap_against_a_plain_loop():
    """The vectorised moments against resampled molecules, one by one; missing labels and unequal folds."""
    rng = np.random.default_rng(2)
    x, y = made(rng, 70, 2, 0.2, 0.5)
    x[3, 1] = np.nan
    folds = np.repeat([0, 1, 2], [20, 25, 25])
    found = paired_gains(x, y, folds, repeats=50, seed=9)
    for column in range(2):
        known = np.isfinite(x[:, column])
        means = [[v[known & (folds == f), column].mean() for f in range(3)] for v in (x, y)]
        assert found.estimate[column] == pytest.approx(100 * (1 - np.mean(means[1]) / np.mean(means[0])))
    generator = np.random.default_rng(9)
    drawn = [generator.integers(0, size, (50, size)) for size in (20, 25, 25)]
    rows = np.concatenate([np.flatnonzero(folds == f)[d] for f, d in enumerate(drawn)], axis=1)
    weight = np.array([1 / 20, 1 / 25, 1 / 25])[folds][:, None]
    direct = 100 * (1 - (y * weight)[rows, 0].sum(1) / (x * weight)[rows, 0].sum(1))
    np.testing.assert_allclose(found.replicates[:, 0], direct, atol=1e-9)


def test_equal_predictions_are_no_gain_and_an_absent_group_is_unknown():
    x = np.abs(np.random.default_rng(0).standard_normal((30, 2)))
    other = x.copy()
    other[:, 1] = np.nan
    found = paired_gains(x, other, np.arange(30) % 3, repeats=100)
    assert (found.estimate[0], found.low[0], found.high[0], found.p[0]) == (0.0, 0.0, 0.0, 1.0)
    assert np.isnan([found.estimate[1], found.low[1], found.p[1]]).all()
