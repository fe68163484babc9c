"""Intervals by split-conformal prediction, from the molecules that a run validates on.

With the absolute errors of n molecules that the model has not learned, in ascending order, the radius of a
level is the ceil((n + 1) level)-th of them (Vovk, Gammerman and Shafer, 2005; Lei et al., 2018, eq. 5). An
interval of this radius about a prediction covers the label of a new molecule of the same kind with at least
this probability. The error of a class is 1 - its probability, and its set has all classes below the radius.

The best validation is chosen by the same molecules, so that coverage is slightly below the level: by how
much, `mmgnn evaluate` says on the test part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mmgnn_dist.errors import UserError
from mmgnn_dist.run_records import Calibration
from mmgnn_dist.train.evaluate import Predictions

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
COVERED = 0.9


@dataclass(frozen=True)
class IntervalQuality:
    """How well the intervals of one target cover labels.

    Attributes:
        level: the share that they promise to cover.
        molecules: number of labelled molecules.
        coverage: the share of labels within their interval, or of classes within their set.
        width: width of an interval in the unit of the target, or mean number of classes in a set.
        unit: unit of the width.
    """

    level: float
    molecules: int
    coverage: float
    width: float
    unit: str


def conformal_radius(errors: np.ndarray, level: float) -> float:
    """Radius of the interval of a level; infinite if there are too few errors for it.

    Args:
        errors: absolute errors of molecules that were not learned [n].
        level: share of molecules that the interval covers, such as 0.9.
    """
    place = math.ceil((len(errors) + 1) * Fraction(str(level)))
    return float(np.sort(errors)[place - 1]) if place <= len(errors) else math.inf


def calibrate(predictions: Predictions, targets: Sequence[str]) -> dict[str, Calibration]:
    """Radii of each target from predictions for the validation part; None where it is too small."""
    found: dict[str, Calibration] = {}
    for place, name in enumerate(targets):
        errors = _errors(predictions, place)
        radii = {str(level): conformal_radius(errors, level) for level in LEVELS}
        finite = {level: radius if math.isfinite(radius) else None for level, radius in radii.items()}
        found[name] = {"molecules": len(errors), "radii": finite}
    return found


def check_level(level: float) -> None:
    """Refuse a level for which no radius is kept.

    Raises:
        UserError: it is none of `LEVELS`.
    """
    if level not in LEVELS:
        raise UserError(f"level {level}: intervals are kept for {', '.join(map(str, LEVELS))}")


def radius_of(calibration: dict[str, Calibration], target: str, level: float) -> float:
    """Radius of a target; NaN if its export has none."""
    radius = calibration[target]["radii"].get(str(level)) if target in calibration else None
    return math.nan if radius is None else radius


def class_sets(probabilities: np.ndarray, radius: float) -> np.ndarray:
    """Which classes are in the set of each molecule, bool [n, K]."""
    return 1.0 - probabilities <= radius


def interval_quality(
    predictions: Predictions,
    units: Mapping[str, str],
    calibration: dict[str, Calibration],
    level: float = COVERED,
) -> dict[str, IntervalQuality]:
    """Coverage and width by target, of those that have a radius and labels.

    Args:
        predictions: predictions for molecules that the model has not learned.
        units: unit of each target, in the order of the predictions.
        calibration: radii of the targets.
        level: share that the intervals promise to cover.
    """
    found = {}
    for place, (name, unit) in enumerate(units.items()):
        errors, radius = _errors(predictions, place), radius_of(calibration, name, level)
        if not len(errors) or math.isnan(radius):
            continue
        width, words = 2 * radius, unit
        if place in predictions.probabilities:
            width = float(class_sets(predictions.probabilities[place], radius).sum(1).mean())
            words = "classes"
        found[name] = IntervalQuality(level, len(errors), float((errors <= radius).mean()), width, words)
    return found


def _errors(predictions: Predictions, place: int) -> np.ndarray:
    """Absolute errors of the labelled molecules, or 1 - the probability of the true class."""
    true = predictions.true[:, place]
    known = np.flatnonzero(np.isfinite(true))
    if place not in predictions.probabilities:
        return np.abs(predictions.predicted[known, place] - true[known])
    return 1.0 - predictions.probabilities[place][known, true[known].astype(int)]
