import numpy as np
import pytest

from mmgnn_dist.train.report.class_baseline import PENALTY, logistic_probabilities
from mmgnn_dist.train.report.class_metrics import (
    auroc,
    average_precision,
    balanced_cross_entropy,
    class_metrics,
    roc_curve,
)

metrics = pytest.importorskip("sklearn.metrics")
PRIOR = np.array([0.7, 0.3])


def made(classes, n=200, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)).round(1) + 1.5 * np.eye(classes)[true]  # rounded: there are ties
    powers = np.exp(logits)
    return true, powers / powers.sum(1, keepdims=True)


def test_areas_are_those_of_scikit_learn():
    true, chances = made(2)
    assert auroc(true == 1, chances[:, 1]) == pytest.approx(
        metrics.roc_auc_score(true, chances[:, 1]), abs=1e-12
    )
    wanted = metrics.average_precision_score(true, chances[:, 1])
    assert average_precision(true == 1, chances[:, 1]) == pytest.approx(wanted, abs=1e-12)
    false_rate, true_rate = roc_curve(true == 1, chances[:, 1])
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(metrics.roc_auc_score(true, chances[:, 1]))


def test_areas_by_hand():
    positive, score = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.7])
    assert (
        auroc(positive, score) == (1 + 1 + 0 + 0.5) / 4
    )  # pairs: 0.9 > 0.8, 0.9 > 0.7, 0.7 < 0.8, 0.7 = 0.7
    assert average_precision(positive, score) == 0.5 * 1 + 0.5 * 2 / 4
    assert np.isnan(auroc(np.ones(3, bool), np.arange(3.0)))


def test_several_classes_and_missing_labels():
    true, chances = made(3)
    labels = true.astype(float)
    labels[::7] = np.nan
    known = np.isfinite(labels)
    prior = np.array([0.2, 0.3, 0.5])
    found = class_metrics(labels, chances, prior)
    of_sklearn = metrics.roc_auc_score(true[known], chances[known], multi_class="ovr", average="macro")
    assert found["auroc"] == pytest.approx(of_sklearn)
    wanted = metrics.average_precision_score(np.eye(3)[true[known]], chances[known], average="macro")
    assert found["auprc"] == pytest.approx(wanted)
    chosen = (chances[known] / prior).argmax(1)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true[known], chosen))


def test_prevalence_knows_nothing():
    true = np.array([0.0] * 70 + [1.0] * 30)
    found = class_metrics(true, np.tile(PRIOR, (100, 1)), PRIOR)
    assert found == {"auroc": 0.5, "auprc": pytest.approx(0.3), "balanced_accuracy": 0.5}
    assert balanced_cross_entropy(true, np.tile(PRIOR, (100, 1)), PRIOR) == pytest.approx(1.0)


def test_logistic_regression_is_that_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    x = rng.poisson(3, size=(150, 4)).astype(float)
    y = np.digitize(x[:, 0] - x[:, 1] + rng.normal(0, 1, 150), [-1, 1])
    new = rng.poisson(3, size=(20, 4)).astype(float)
    scaled, scaled_new = ((part - x.mean(0)) / x.std(0) for part in (x, new))
    model = linear.LogisticRegression(C=1 / (PENALTY * len(x)), tol=1e-10, max_iter=10_000).fit(scaled, y)
    assert logistic_probabilities(x, y, new, 3) == pytest.approx(model.predict_proba(scaled_new), abs=2e-3)
