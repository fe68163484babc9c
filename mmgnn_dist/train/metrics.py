"""Metrics of the journal: a number for each target, from sums and counts over its labelled molecules.

Every molecule counts once for any number of ranks and any batch size: terms are summed in float64 and divided
once. The mean absolute error chooses the best weights, whatever other metrics are recorded.
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
        name: its part in the names of values, `mae` in `val/mae/homo_eV`.
    """

    name: ClassVar[str]

    @abstractmethod
    def terms(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Compute the term of each molecule and target to be summed, [n, T].

        Args:
            true: targets in units [n, T]; zero without a label, and the term of such a molecule is ignored.
            predicted: predictions in units [n, T].
        """

    def finish(self, means: np.ndarray) -> np.ndarray:
        """Compute the values [T] from the means of the terms [T]; by default, the means themselves."""
        return means

    def unit(self, unit: str) -> str:
        """Return the unit of a value from the unit of its target; '' for none."""
        return unit

    def values(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Compute the value of each target over its labelled molecules [T]; NaN without labels.

        Args:
            true: targets in units [n, T], NaN without a label.
            predicted: predictions in units [n, T].
        """
        labelled = np.isfinite(true)
        terms = self.terms(np.where(labelled, true, 0.0), predicted)
        counts = labelled.sum(0)
        missing = np.full(len(counts), np.nan)
        sums = np.where(labelled, terms, 0.0).sum(0)
        return self.finish(np.divide(sums, counts, out=missing, where=counts > 0))

    def named(self, part: str, targets: dict[str, str], values: np.ndarray) -> dict[str, float | None]:
        """Return values by name, `test/mae/homo_eV`; None where a target has no label.

        Args:
            part: train, val or test, or the name of the predictor.
            targets: unit of each target by name.
            values: value of each target [T].
        """
        units = [metric_unit(self.unit(unit)) for unit in targets.values()]
        names = [f"{name}_{unit}" if unit else name for name, unit in zip(targets, units, strict=True)]
        return named_values(f"{part}/{self.name}", names, values)


def metric_unit(unit: str) -> str:
    """A unit as it stands in names of metrics: `cal_per_mol_per_K`."""
    return unit.replace("/", "_per_").replace(" ", "_")


def named_values(above: str, names: list[str], values: np.ndarray) -> dict[str, float | None]:
    """Return values as plain numbers by `above/name`; None without a value.

    Args:
        above: part and metric, `test/mae`.
        names: name of each target with its unit, `homo_eV`.
        values: value of each target [T], NaN without labels.
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
    """Make the metrics that validations of a recipe record, the mean absolute error first.

    Raises:
        UserError: a metric of a plugin cannot be used.
    """
    names = dict.fromkeys(["mae", *recipe.train.metrics])
    return [load_class("metrics", name, Metric)() for name in names]  # type: ignore[type-abstract]
