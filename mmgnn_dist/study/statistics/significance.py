"""The rule for a gain of text: p-values corrected over a whole table.

A row (target and backbone) is marked if text is better than graph alone and better than shuffled text, each
over molecules and trainings (`judgement`). All must hold, so the p-value of a row is the largest
(intersection-union test, Berger 1982). Holm's step-down method (1979, no assumption on the dependence of
rows)
corrects these over all rows of a report: the probability of one or more false marks is at most 5 %.
"""

from __future__ import annotations

import numpy as np

LEVEL = 0.05


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust the p-values of a family [m] by Holm's step-down method; NaN is not a member and stays NaN."""
    members = np.flatnonzero(np.isfinite(p))
    order = members[np.argsort(p[members], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def joined(gains: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Compute one p-value per row for "better than every reference"; it is 1 if any gain is not positive.

    Args:
        gains: gain of each row over each reference [m, references]; NaN if a reference is missing.
        p: p-values of these gains, in the same form; NaN where a gain is not judged.

    Returns:
        p-values [m]; NaN if a reference is missing or not judged.
    """
    unknown = np.isnan(gains) | np.isnan(p)
    return np.where(unknown, np.nan, np.where(gains > 0, p, 1.0)).max(-1)


def marked(gains: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corrected p-values of a table [m], and whether each row is a gain of text, bool [m]."""
    corrected = holm(joined(gains, p))
    return corrected, corrected <= LEVEL
