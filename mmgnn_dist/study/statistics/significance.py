"""What may be called a gain of text: p-values corrected for a whole table, and the rule.

A row (target and backbone) is marked if text is better than graph alone and better than shuffled text. Both
have to hold, so the p-value of a row is the larger of the two (intersection-union test, Berger 1982), and
these are corrected over all rows of the table by Holm's step-down method (1979, no assumption on how the rows
depend on each other): the chance of one false mark or more in a table is at most 5 %.
"""

from __future__ import annotations

import numpy as np

LEVEL = 0.05


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values of a family [m], by step-down; a NaN is no member of it and stays."""
    members = np.flatnonzero(np.isfinite(p))
    order = members[np.argsort(p[members], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def joined(gains: np.ndarray, p: np.ndarray) -> np.ndarray:
    """One p-value a row for "better than every reference": 1 where one of them is not beaten.

    Args:
        gains: of each row over each of its references [m, references]; NaN where a reference is missing.
        p: p-values of these gains, likewise.

    Returns:
        [m], NaN where a reference is missing.
    """
    return np.where(gains > 0, p, np.where(np.isnan(gains), np.nan, 1.0)).max(-1)


def marked(gains: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corrected p-values of a table [m], and which rows are gains of text, bool [m]."""
    corrected = holm(joined(gains, p))
    return corrected, corrected <= LEVEL
