"""Metrics of classes: AUROC, AUPRC, balanced accuracy, and cross entropy with every class weighted equally.

AUROC is the share of pairs of one molecule of the class and one of another in which the first has the
larger probability, ties half (Mann and Whitney). AUPRC is the average precision: the sum over thresholds of
precision times the rise in recall. With two classes both are those of the second one; with more, the mean
over the classes that occur (one against the rest). Balanced accuracy is the mean recall
over the classes, if each molecule is given the class whose probability exceeds its prevalence most.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmgnn_dist.train.metrics import metric_unit

CLASS_TITLES = {"auroc": "AUROC", "auprc": "AUPRC", "balanced_accuracy": "balanced accuracy"}


def class_metrics(true: np.ndarray, probabilities: np.ndarray, prior: np.ndarray) -> dict[str, float]:
    """Compute `CLASS_METRICS` over the labelled molecules; NaN where they are not defined.

    Args:
        true: number of the class of each molecule, NaN without a label [n].
        probabilities: probability of each class [n, K].
        prior: share of each class in the training part [K].
    """
    labelled = np.isfinite(true)
    classes, chances = true[labelled].astype(int), probabilities[labelled]
    chosen = np.argmax(chances / prior, axis=1)  # the class that exceeds its prevalence most
    present = np.unique(classes)
    recalls = [float((chosen[classes == k] == k).mean()) for k in present]
    return {
        "auroc": _over_classes(classes, chances, auroc),
        "auprc": _over_classes(classes, chances, average_precision),
        "balanced_accuracy": float(np.mean(recalls)) if len(present) > 1 else np.nan,
    }


def balanced_cross_entropy(true: np.ndarray, probabilities: np.ndarray, prior: np.ndarray) -> float:
    """Cross entropy if all classes were equally frequent, over its value without knowledge, log K.

    Args:
        true: number of the class of each molecule, NaN without a label [n].
        probabilities: probability of each class [n, K].
        prior: share of each class in the training part [K].
    """
    labelled = np.isfinite(true)
    classes, balanced = true[labelled].astype(int), probabilities[labelled] / prior
    own = balanced[np.arange(len(classes)), classes] / balanced.sum(axis=1)
    losses = -np.log(np.maximum(own, np.finfo(float).tiny))
    return float(np.mean([losses[classes == k].mean() for k in np.unique(classes)]) / np.log(len(prior)))


def auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; NaN if all molecules are of one class."""
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return np.nan
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # the mean rank of equal scores
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """Average precision over the distinct scores; NaN without a molecule of the class."""
    if not positive.any():
        return np.nan
    _, inverse, counts = np.unique(-score, return_inverse=True, return_counts=True)
    hits = np.cumsum(np.bincount(inverse, positive, len(counts)))
    precision, recall = hits / np.cumsum(counts), hits / hits[-1]
    return float((precision * np.diff(recall, prepend=0.0)).sum())


def roc_curve(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates over the distinct scores, from (0, 0) to (1, 1)."""
    _, inverse, counts = np.unique(-score, return_inverse=True, return_counts=True)
    hits = np.cumsum(np.bincount(inverse, positive, len(counts)))
    others = np.cumsum(counts) - hits
    rates = [np.concatenate([[0.0], part / max(part[-1], 1)]) for part in (others, hits)]
    return rates[0], rates[1]


def _over_classes(
    classes: np.ndarray, chances: np.ndarray, metric: Callable[[np.ndarray, np.ndarray], float]
) -> float:
    """The metric of the second of two classes, else the mean over the classes that occur."""
    if chances.shape[1] == 2:
        return metric(classes == 1, chances[:, 1])
    values = [metric(classes == k, chances[:, k]) for k in np.unique(classes)]
    return float(np.mean(values)) if values else np.nan


def target_of_metric(metric: str, units: dict[str, str]) -> tuple[str, str]:
    """Return the target of a metric such as `mae/homo_eV`, and its unit or the title of the metric."""
    kind, _, name = metric.partition("/")
    if kind in CLASS_TITLES:
        return name, CLASS_TITLES[kind]
    return next((t, u) for t, u in units.items() if name == f"{t}_{metric_unit(u)}")
