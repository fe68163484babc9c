"""Scores of predicted numbers that readers expect beside the MAE: RMSE, R², Spearman, the largest error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import RunMetrics

SCORE_TITLES = ("molecules", "MAE", "RMSE", "R²", "Spearman", "largest error")


@dataclass(frozen=True)
class NumberScores:
    """Scores of one target over its labelled molecules, NaN where they are not defined.

    Attributes:
        count: molecules with a label.
        mae: mean absolute error, in the unit of the target.
        rmse: root of the mean squared error, in the unit of the target.
        r2: coefficient of determination, 1 - squared error / variance of the labels.
        spearman: rank correlation of predictions and labels.
        largest: the largest absolute error, in the unit of the target.
    """

    count: int
    mae: float
    rmse: float
    r2: float
    spearman: float
    largest: float

    def cells(self) -> list[str]:
        """Return the cells of a table with the columns of `SCORE_TITLES`."""
        values = (self.mae, self.rmse, self.r2, self.spearman, self.largest)
        return [f"{self.count:,}", *(f"{value:.4g}" if math.isfinite(value) else "–" for value in values)]


def run_scores(run: RunDir) -> dict[str, NumberScores]:
    """Return the scores of a finished run on its test part, by target; classes have none."""
    metrics: RunMetrics = read_json(run.metrics)
    table = pq.read_table(run.predictions)
    scores = {}
    for name, unit in metrics["units"].items():
        if unit:  # a class has none; a number without a unit has the unit 1
            true, found = (table[f"{name}_{kind}"].to_numpy() for kind in ("true", "pred"))
            scores[name] = number_scores(true, found)
    return scores


def number_scores(true: np.ndarray, predicted: np.ndarray) -> NumberScores:
    """Compute the scores of one target.

    Args:
        true: labels, NaN without one [n].
        predicted: predictions in the same unit [n].
    """
    labelled = np.isfinite(true)
    y, found = true[labelled].astype(np.float64), predicted[labelled].astype(np.float64)
    if not len(y):
        return NumberScores(0, *[math.nan] * 5)
    errors = np.abs(found - y)
    spread, squared = float(((y - y.mean()) ** 2).sum()), float((errors**2).sum())
    return NumberScores(
        count=len(y),
        mae=float(errors.mean()),
        rmse=math.sqrt(squared / len(y)),
        r2=1 - squared / spread if spread > 0 else math.nan,
        spearman=_rank_correlation(y, found),
        largest=float(errors.max()),
    )


def _rank_correlation(y: np.ndarray, found: np.ndarray) -> float:
    """Return Spearman's correlation; written out, since scipy.stats takes seconds to load."""
    if np.ptp(y) == 0 or np.ptp(found) == 0:
        return math.nan
    return float(np.corrcoef(_ranks(y), _ranks(found))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks, equal values with the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
