"""Metrics of the journal: a number for each target, from sums and counts over its labelled molecules.

Every molecule counts once for any number of ranks and any batch size: terms are summed in float64 and divided
once. The score that chooses the best weights is the mean absolute error, whatever else is written down.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from mmgnn_dist.config import Recipe
from mmgnn_dist.config.choices import load_class


class Metric(ABC):
    """A metric that `train.metrics` may name.

    Attributes:
        name: as it stands in the names of values, `val/mae/homo_eV`.
    """

    name: ClassVar[str]

    @abstractmethod
    def terms(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """What is summed: a number for each molecule and target, [n, T].

        Args:
            true: targets in units [n, T]; zero where there is no label, and that term does not count.
            predicted: in units [n, T].
        """

    def finish(self, means: np.ndarray) -> np.ndarray:
        """The values [T] from the means of the terms [T]; themselves unless a metric says otherwise."""
        return means

    def unit(self, unit: str) -> str:
        """The unit of a value, from that of its target; '' for none."""
        return unit

    def values(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """The value of each target over its labelled molecules [T]; NaN where there are none.

        Args:
            true: targets in units [n, T], NaN without a label.
            predicted: in units [n, T].
        """
        labelled = np.isfinite(true)
        terms = self.terms(np.where(labelled, true, 0.0), predicted)
        counts = labelled.sum(0)
        missing = np.full(len(counts), np.nan)
        sums = np.where(labelled, terms, 0.0).sum(0)
        return self.finish(np.divide(sums, counts, out=missing, where=counts > 0))

    def named(self, part: str, targets: dict[str, str], values: np.ndarray) -> dict[str, float | None]:
        """Values under their names, `test/mae/homo_eV`; None where a target has no label.

        Args:
            part: train, val or test, or whose prediction it is.
            targets: their units by their names.
            values: of each target [T].
        """
        units = [self.unit(unit).replace("/", "_per_") for unit in targets.values()]
        names = [f"{name}_{unit}" if unit else name for name, unit in zip(targets, units, strict=True)]
        return named_values(f"{part}/{self.name}", names, values)


def named_values(above: str, names: list[str], values: np.ndarray) -> dict[str, float | None]:
    """Values as plain numbers under `above/name`; None where there is none.

    Args:
        above: part and metric, `test/mae`.
        names: of each target with its unit, `homo_eV`.
        values: of each target [T], NaN where it has no label.
    """
    return {
        f"{above}/{name}": value if np.isfinite(value) else None
        for name, value in zip(names, values.tolist(), strict=True)
    }


class MeanAbsoluteError(Metric):
    """Mean of |predicted - true|."""

    name = "mae"

    def terms(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Absolute errors."""
        return np.abs(predicted - true)


def journal_metrics(recipe: Recipe) -> list[Metric]:
    """The metrics that validations of a recipe write down, the mean absolute error first.

    Raises:
        UserError: if a plugin's cannot be used.
    """
    names = dict.fromkeys(["mae", *recipe.train.metrics])
    return [load_class("metrics", name, Metric)() for name in names]  # type: ignore[type-abstract]
