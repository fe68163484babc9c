"""The judgement over molecules and trainings: formulas of scipy, and tables without a gain that have no
mark."""

from __future__ import annotations

import numpy as np
import pytest
from made_studies import DESIGNS, made_tables
from scipy.stats import f_oneway, nct, ttest_rel
from scipy.stats import t as student

from mmgnn_dist.study.statistics.bootstrap import paired_gains
from mmgnn_dist.study.statistics.corrected_ttest import scatter_of, t_interval
from mmgnn_dist.study.statistics.judgement import LEAST_RUNS, detectable, judge


def test_replicates_with_disjoint_training_sets_are_a_paired_t_test():
    """Equal to the test of the arm in a mixed model of log MAE with a random effect of the replicate."""
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(24, 1)) + rng.normal(0.0, 0.05, (24, 2)) + [0.0, -0.03]
    runs = scatter_of((logs[:, 1] - logs[:, 0])[:, None], share=0.0)
    expected = ttest_rel(logs[:, 1], logs[:, 0])
    half, p = t_interval(runs.estimate, runs.error, np.array(runs.freedom))
    assert (p, runs.freedom) == (pytest.approx(expected.pvalue), 23)
    interval = expected.confidence_interval(0.95)
    assert (runs.estimate - half, runs.estimate + half) == pytest.approx((interval.low, interval.high))


def test_the_components_are_those_of_the_analysis_of_variance():
    effects = np.random.default_rng(1).normal(size=(4, 3)) + np.arange(4)[:, None]
    runs = scatter_of(effects, share=0.5)
    within = effects.var(1, ddof=1).mean()
    between = f_oneway(*effects).statistic * within  # mean square between folds
    assert float(runs.by_seed) == pytest.approx(np.sqrt(within))
    assert float(runs.by_training) == pytest.approx(np.sqrt((between - within) / 3))
    assert float(runs.error) == pytest.approx(np.sqrt((1 / 4 + 0.5) * between / 3))


def test_one_test_set_adds_its_molecules_and_folds_have_them():
    runs = scatter_of(np.array([[-0.2], [-0.1], [-0.15], [-0.12]]), share=0.0)
    molecules, own = np.array(0.03), float(runs.error)
    added = judge(runs, 4, molecules, np.array(1e-6), apart=False)
    total = np.sqrt(own**2 + 0.03**2)
    freedom = total**4 / (own**4 / 3)  # Satterthwaite, the molecules' variance as known
    assert float(added.error) == pytest.approx(total) and float(added.freedom) == pytest.approx(freedom)
    least = 2 * student.sf(abs(runs.estimate) / own, 3)  # three degrees of freedom, whatever the sum has
    assert float(added.p) == pytest.approx(max(least, 2 * student.sf(abs(runs.estimate) / total, freedom)))
    apart = judge(runs, 4, molecules, np.array(0.4), apart=True)
    assert float(apart.error) == pytest.approx(max(own, 0.03)) and float(apart.p) == 0.4
    assert np.isnan(judge(runs, LEAST_RUNS - 1, molecules, np.array(1e-6), apart=True).p)


@pytest.mark.parametrize("freedom", [4, 11, 23])
def test_the_smallest_effect_is_found_in_four_of_five(freedom):
    level = 0.05
    effect = float(detectable(np.array(1.0), np.array(freedom), level))
    critical = student.ppf(1 - level / 2, freedom)
    assert nct.sf(critical, freedom, effect) == pytest.approx(0.8, abs=0.03)


def test_molecules_of_several_folds_are_drawn_once():
    """Three folds that test the same molecules know no more than one of them."""
    rng = np.random.default_rng(4)
    x, y = (np.abs(rng.standard_normal((200, 1))) for _ in range(2))
    one = paired_gains(x, y, np.zeros(200, int), repeats=400)
    folds, names = np.repeat([0, 1, 2], 200), np.tile(np.arange(200), 3)
    x3, y3 = (np.tile(side, (3, 1)) for side in (x, y))
    known = paired_gains(x3, y3, folds, repeats=400, identities=names)
    np.testing.assert_allclose([known.estimate, known.low, known.p], [one.estimate, one.low, one.p])
    assert known.error[0] == pytest.approx(one.error[0])
    taken_as_new = paired_gains(x3, y3, folds, repeats=400)
    assert taken_as_new.error[0] == pytest.approx(one.error[0] / np.sqrt(3), rel=0.05)


@pytest.mark.parametrize("name", ["3 folds × 1 seed", "1 fold × 5 seeds"])
def test_few_tables_without_a_gain_have_a_mark(name):
    """Runs scatter by 5 % of the error; test molecules alone call that a gain in many tables."""
    rule, molecules = made_tables(DESIGNS[name], 20, scatter=0.05).tables()
    assert rule <= 0.05 and molecules > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("scatter", [0.03, 0.05, 0.07])
@pytest.mark.parametrize("name", DESIGNS)
def test_at_most_one_table_of_twenty_has_a_mark(name, scatter):
    rule, molecules = made_tables(DESIGNS[name], 200, scatter).tables()
    assert rule <= 0.05 and molecules > rule


@pytest.mark.slow
def test_a_gain_is_found_as_often_as_predicted():
    """24 disjoint training sets: the power that the report predicts, for the first step of Holm."""
    design, scatter = DESIGNS["24 disjoint training sets, one test set"], 0.05
    error = np.sqrt(2) * scatter / np.sqrt(24)
    gain = -np.expm1(-float(detectable(np.array(error), np.array(23.0), 0.05 / design.rows)))
    found = made_tables(design, 12, scatter, gain + 0.01, seed=3)
    assert found.rule.mean() > 0.7
