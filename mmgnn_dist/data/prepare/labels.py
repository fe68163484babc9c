"""Labels of a staged set as a whole: kinds that are not declared, and labels far from all others.

Both rest on a fit of the labels on composition (numbers of atoms of each element). They read staged shards
in order, so their results do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmgnn_dist.chem.elements import MAX_Z
from mmgnn_dist.chem.targets import Target
from mmgnn_dist.data.shardset.shards import Shard

SAMPLE = 20_000  # labels on which the kind of a target is decided
SPARE = 10  # labels beyond the number of elements that the decision needs
EXPLAINED = 0.65  # least share of the variance that numbers of atoms explain for an extensive target
BETTER = 0.6  # most of what shares of the elements leave unexplained that numbers of atoms may leave
SUPPORT = 10  # molecules from which the fit knows an element
LENIENCE = 1000.0  # by which labels of molecules with rarer elements may deviate more
ROUNDS = 4  # fits, each without the labels that deviated in the last one
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99)  # of the deviations; the first that is not zero gives the scale
NORMAL = (0.6744897502, 1.1503493804, 1.6448536270, 1.9599639845, 2.5758293035)  # the same of a normal one
SKEWED = 5.0  # ratio of the upper to the lower spread from which on positive labels are judged by logarithm
ROUNDING = 1e-6  # smallest scale as a share of the labels' size: composition alone may determine them


@dataclass(frozen=True)
class StagedLabels:
    """Labels and composition of all molecules of a staged set.

    Attributes:
        shards: files of the shards, in order.
        starts: first row of each shard, and the end [S + 1].
        counts: atoms of each element that occurs [n, E].
    """

    shards: Sequence[Path]
    starts: np.ndarray
    counts: np.ndarray

    @classmethod
    def open(cls, shards: Sequence[Path]) -> StagedLabels:
        """Count the atoms of the staged shards."""
        elements = np.zeros(MAX_Z + 1, bool)
        for path in shards:
            elements[np.unique(Shard(path).z)] = True
        column = np.cumsum(elements) - 1
        width = max(int(elements.sum()), 1)
        parts, sizes = [np.zeros((0, width), np.uint16)], [0]
        for path in shards:
            shard = Shard(path)
            molecule = np.repeat(np.arange(shard.rows), np.diff(shard.ptr))
            cells = np.bincount(molecule * width + column[shard.z], minlength=shard.rows * width)
            parts.append(cells.reshape(-1, width).astype(np.uint16))
            sizes.append(shard.rows)
        return cls(shards, np.cumsum(sizes), np.concatenate(parts))

    def labels(self, column: int) -> np.ndarray:
        """Labels of one target, float64 [n], NaN where missing."""
        return np.concatenate([np.zeros(0), *(Shard(path).y[:, column] for path in self.shards)])


def decide_kind(target: Target, y: np.ndarray, counts: np.ndarray) -> tuple[str, str]:
    """Return the kind that labels show, and why.

    A target is extensive if numbers of atoms explain most of the variance of its labels, and clearly more of
    it than the shares of the elements.

    Args:
        target: the target; its kind is not known.
        y: its labels, NaN where missing [n].
        counts: atoms of each element [n, E].
    """
    rows = np.flatnonzero(np.isfinite(y))
    if len(rows) > SAMPLE:
        rows = rows[np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64)]
    values, atoms = y[rows], counts[rows].astype(float)
    atoms = atoms[:, atoms.any(axis=0)]
    sizes = atoms.sum(axis=1)
    cure = f"data.targets.{target.name}.kind"
    if len(rows) < atoms.shape[1] + SPARE or len(np.unique(sizes)) < 2 or np.ptp(values) == 0:
        why = "all of one size" if len(rows) and len(np.unique(sizes)) < 2 else f"{len(rows)} labels"
        return "intensive", f"taken as intensive without evidence ({why}): declare {cure} if it is not"
    whole, share = _explained(atoms, values), _explained(atoms / sizes[:, None], values)
    extensive = whole >= EXPLAINED and 1 - whole <= BETTER * (1 - share)
    kind = "extensive" if extensive else "intensive"
    return kind, (
        f"taken as {kind}, since numbers of atoms explain {_percent(whole)} of the variance of its labels, "
        f"and shares of the elements {_percent(share)}: declare {cure} if it is another"
    )


def deviating(kind: str, y: np.ndarray, counts: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows whose label deviates by more than `limit` robust standard deviations, and by how many.

    Extensive labels and those of r2 are judged after a fit on composition, which leaves out what deviates;
    molecules of elements that are too rare for the fit are judged by the bare labels, far more leniently.
    Positive labels with a long upper tail are judged by their logarithm.

    Args:
        kind: kind of the target.
        y: its labels, NaN where missing [n].
        counts: atoms of each element [n, E].
        limit: largest deviation in robust standard deviations.
    """
    rows = np.flatnonzero(~np.isnan(y))
    values = y[rows]
    if not len(rows):
        return rows, values
    deviation = _deviation(values)
    if kind in ("extensive", "r2"):
        atoms = counts[rows]
        for _ in range(ROUNDS):
            sound = deviation <= limit
            weights = _fitted(atoms[sound].astype(float), values[sound])
            deviation = _deviation(values - atoms @ weights, float(np.median(np.abs(values))))
            if np.array_equal(deviation <= limit, sound):
                break
        # a fit says nothing of an element that few molecules have: iodine among organic molecules is no fault
        rare = (atoms[sound] > 0).sum(axis=0) < SUPPORT
        alone = (atoms[:, rare] > 0).any(axis=1)
        deviation[alone] = _deviation(values)[alone] / LENIENCE
    elif _is_skewed(values):
        positive = values > 0
        deviation[positive] = _deviation(np.log(values[positive]))
    far = deviation > limit
    return rows[far], deviation[far]


def _is_skewed(values: np.ndarray) -> bool:
    # ranks, not interpolated: one absurd label among a few must not make them skewed
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], method="lower")
    return bool(low > 0 and high - middle > SKEWED * (middle - low))


def _deviation(values: np.ndarray, size: float = 0.0) -> np.ndarray:
    """Distance from the median in robust standard deviations; zero if nearly all values are equal."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.abs(values - np.median(values))
    quantiles = np.quantile(distance, QUANTILES, method="inverted_cdf")
    scale = next((q / n for q, n in zip(quantiles, NORMAL, strict=True) if q > 0), 0.0)
    scale = max(scale, ROUNDING * size)
    return distance / scale if scale > 0 else np.zeros(len(values))


def _fitted(atoms: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least-squares weights; the smallest where they are not unique."""
    return np.asarray(np.linalg.lstsq(atoms.T @ atoms, atoms.T @ values, rcond=None)[0])


def _explained(features: np.ndarray, values: np.ndarray) -> float:
    """Share of the variance that a linear fit without intercept explains, adjusted for its parameters."""
    weights, _, rank, _ = np.linalg.lstsq(features, values, rcond=None)
    rest = ((values - features @ weights) ** 2).sum() / max(len(values) - rank, 1)
    return float(1 - rest / (((values - values.mean()) ** 2).sum() / (len(values) - 1)))


def _percent(share: float) -> str:
    return f"{max(share, 0.0):.2%}" if share > 0.99 else f"{max(share, 0.0):.0%}"
