"""Report section on the second claim of the paper: do the architectures agree on gains and representations?

It compares two backbones in three ways: the rank correlation of their gains over the targets, the correlation
of their errors over molecules, and CKA of their molecule vectors (`representations`).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from mmgnn_dist.study.collect import Model, Results
from mmgnn_dist.study.compare import Compared
from mmgnn_dist.study.grid import BASE
from mmgnn_dist.study.report.architectures.representations import representations
from mmgnn_dist.study.report.gains import SHOWN_NAMES
from mmgnn_dist.study.report.report_elements import ReportSection, Table

LEAST = 4  # smallest number of targets for a rank correlation


def agreement_section(results: Results, gains: list[Compared]) -> ReportSection | None:
    """The three comparisons for the base; None if the base has fewer than two backbones."""
    pairs = list(combinations(results.backbones_of(BASE), 2))
    if not pairs:
        return None
    items = []
    if len(results.targets) >= LEAST:
        items.append(_ranks(results, gains, pairs))
    items += [_errors(results, pairs), representations(results)]
    return ReportSection("Do the architectures agree?", [], [item for item in items if item.rows])


def _ranks(results: Results, gains: list[Compared], pairs: list[tuple[str, str]]) -> Table:
    rows, numbers = [], []
    for arm in ("graph", "shuffled"):
        gains_of = {c.other.backbone: c.test for c in gains if c.reference.arm == arm}
        for first, second in pairs:
            finite = np.isfinite(gains_of[first].estimate) & np.isfinite(gains_of[second].estimate)
            count = int(finite.sum())
            if count < LEAST:
                continue
            left, right = gains_of[first].replicates[:, finite], gains_of[second].replicates[:, finite]
            drawn = spearman(left, right)
            rho = float(
                spearman(gains_of[first].estimate[None, finite], gains_of[second].estimate[None, finite])[0]
            )
            low, high = np.nanquantile(drawn, [0.025, 0.975])
            over = _over_targets(rho, count)
            rows.append(
                [
                    f"{first}, {second}",
                    SHOWN_NAMES[arm],
                    str(count),
                    f"{rho:+.2f}",
                    f"[{low:+.2f}, {high:+.2f}]",
                    f"[{over[0]:+.2f}, {over[1]:+.2f}]",
                ]
            )
            numbers.append(
                {
                    "first": first,
                    "second": second,
                    "reference": arm,
                    "targets": count,
                    "spearman": rho,
                    "molecules_low": low,
                    "molecules_high": high,
                    "targets_low": over[0],
                    "targets_high": over[1],
                }
            )
    columns = ["backbones", "gain over", "targets", "rank correlation", "over molecules", "over targets"]
    note = (
        "Spearman's rank correlation of the gains over the targets. over molecules: 95 % interval of the "
        "bootstrap "
        "(percentiles; these targets); over targets: as if the targets were a sample of many (Fieller's "
        "standard "
        "error of Fisher's z, 1.03 / sqrt(T - 3))."
    )
    return Table("agreement_gains", "Gains over the targets", columns, rows, numbers, note, words=2)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation of each row of two arrays [m, n]; equal values have their mean rank."""
    from scipy.stats import rankdata

    a, b = (r - r.mean(-1, keepdims=True) for r in (rankdata(v, axis=-1) for v in (x, y)))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def _over_targets(rho: float, count: int) -> tuple[float, float]:
    """95 % interval of a rank correlation (Fieller, Hartley and Pearson 1957)."""
    z, half = np.arctanh(np.clip(rho, -0.9999, 0.9999)), 1.96 * 1.03 / np.sqrt(max(count - 3, 1))
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _errors(results: Results, pairs: list[tuple[str, str]]) -> Table:
    """Rank correlation of signed errors over test molecules, by target, with and without text."""
    rows, numbers = [], []
    for first, second in pairs:
        for target in results.targets:
            shown = [f"{first}, {second}", target]
            for arm in ("graph", "both", "shuffled"):
                sides = [results.errors.get((Model(b, arm), target), {}) for b in (first, second)]
                correlations = [
                    _ranked(sides[0][run], sides[1][run]) for run in sides[0].keys() & sides[1].keys()
                ]
                value = float(np.mean(correlations)) if correlations else np.nan
                shown.append(f"{value:+.2f}" if correlations else "–")
                numbers.append(
                    {"first": first, "second": second, "target": target, "arm": arm, "spearman": value}
                )
            rows.append(shown)
    columns = ["backbones", "target", *(SHOWN_NAMES[arm] for arm in ("graph", "both", "shuffled"))]
    note = "Spearman's correlation of signed errors over the test molecules, the mean over folds and seeds."
    return Table("agreement_errors", "Errors over the molecules", columns, rows, numbers, note, words=2)


def _ranked(x: np.ndarray, y: np.ndarray) -> float:
    finite = np.isfinite(x) & np.isfinite(y)
    return float(spearman(x[None, finite], y[None, finite])[0]) if finite.sum() > 2 else np.nan
