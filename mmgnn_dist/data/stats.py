"""Atom references and standardisation from the training part, and the two trivial models to beat.

A reference is the energy (or other extensive value) that each element brings on average: a least-squares
fit on composition without intercept. What is left over is standardised. All is float64 and computed by
sums over the memory-mapped columns, without a Python object per molecule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmgnn_dist.chem.elements import MAX_Z, SYMBOLS
from mmgnn_dist.data.shards import Shard, ShardSet
from mmgnn_dist.errors import UserError, nearest

REFERENCED = "extensive"  # the kind of target that takes atom references


@dataclass(frozen=True)
class References:
    """What turns targets into standardised residuals and back: y = atom_ref·composition + mean + std·r.

    Attributes:
        targets: names, [T].
        kinds: kind of each target.
        atom_ref: float64 [T, 119], per element; zero for targets that take none.
        mean: of the residual in the training part, float64 [T].
        std: of the residual in the training part, float64 [T]; 1 where the residual is constant.
        unseen: symbols of elements that the shard set has and the training part has not.
    """

    targets: list[str]
    kinds: list[str]
    atom_ref: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    unseen: list[str]


def composition(shards: ShardSet, rows: np.ndarray) -> np.ndarray:
    """Atoms of each element in the given global rows, float64 [R, 119], by atomic number."""
    result = np.zeros((len(rows), MAX_Z + 1))
    for chosen, shard, local in visits(shards, rows):
        sizes = shard.ptr[local + 1] - shard.ptr[local]
        inner = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        z = shard.z[np.repeat(shard.ptr[local], sizes) + inner]
        cell = np.repeat(np.arange(len(local)), sizes) * (MAX_Z + 1) + z
        counts = np.bincount(cell, minlength=len(local) * (MAX_Z + 1))
        result[chosen] = counts.reshape(len(local), MAX_Z + 1)
    return result


def labels(shards: ShardSet, rows: np.ndarray, targets: list[str]) -> np.ndarray:
    """Targets of the given global rows in canonical units, float64 [R, T], NaN where missing.

    Raises:
        UserError: a target that the shard set lacks.
    """
    for name in targets:
        if name not in shards.targets:
            raise UserError(
                f"unknown target '{name}'{nearest(name, shards.targets)}: {shards.path} has "
                f"{', '.join(shards.targets)}"
            )
    columns = [shards.targets.index(name) for name in targets]
    result = np.empty((len(rows), len(targets)))
    for chosen, shard, local in visits(shards, rows):
        result[chosen] = shard.y[local][:, columns]
    return result


def fit_references(shards: ShardSet, rows: np.ndarray, targets: list[str]) -> References:
    """Fit atom references, mean and standard deviation of `targets` on the training part.

    Args:
        shards: the molecules.
        rows: global rows of the training part; of these, each target uses those that have a label.
        targets: names.

    Raises:
        UserError: unknown target, or fewer than two labelled molecules for one.
    """
    y, counts = _training(shards, rows, targets)
    kinds = [shards.kinds[name] for name in targets]
    atom_ref = np.zeros((len(targets), MAX_Z + 1))
    mean, std = np.zeros(len(targets)), np.ones(len(targets))
    for place, kind in enumerate(kinds):
        labelled = ~np.isnan(y[:, place])
        residual = y[labelled, place]
        if kind == REFERENCED:
            atom_ref[place] = _fit(counts[labelled], residual)
            residual = residual - counts[labelled] @ atom_ref[place]
        mean[place] = residual.mean()
        spread = residual.std()
        # where composition alone gives the target, what is left is rounding: no scale to divide by
        std[place] = spread if spread > 1e-12 * max(np.abs(y[labelled, place]).max(), 1e-300) else 1.0
    present = {symbol for z, symbol in enumerate(SYMBOLS) if counts[:, z].any()}
    unseen = [symbol for symbol in shards.manifest["elements"] if symbol not in present]
    return References(list(targets), kinds, atom_ref, mean, std, unseen)


def baselines(
    shards: ShardSet, train: np.ndarray, rows: np.ndarray, targets: list[str]
) -> dict[str, np.ndarray]:
    """Predictions of two models without geometry, fitted on the training part.

    Args:
        shards: the molecules.
        train: global rows to fit on.
        rows: global rows to predict.
        targets: names.

    Returns:
        `mean` (the mean of the training part) and `composition` (a linear fit on composition with
        intercept), each float64 [R, T] in canonical units.

    Raises:
        UserError: as `fit_references`.
    """
    y, counts = _training(shards, train, targets)
    asked = composition(shards, rows)
    means = np.nanmean(y, axis=0)
    linear = np.empty((len(rows), len(targets)))
    for place in range(len(targets)):
        labelled = ~np.isnan(y[:, place])
        # centred, the intercept drops out of the fit
        centre, offset = counts[labelled].mean(axis=0), y[labelled, place].mean()
        weights = _fit(counts[labelled] - centre, y[labelled, place] - offset)
        linear[:, place] = (asked - centre) @ weights + offset
    return {"mean": np.tile(means, (len(rows), 1)), "composition": linear}


def _training(shards: ShardSet, rows: np.ndarray, targets: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(labels, composition) of the training part, enough of each label."""
    y = labels(shards, rows, targets)
    for name, count in zip(targets, (~np.isnan(y)).sum(axis=0), strict=True):
        if count < 2:  # a spread needs two
            raise UserError(
                f"target {name} has {count} labelled molecules in the training part: 2 are needed"
            )
    return y, composition(shards, rows)


def _fit(counts: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares weight per element, float64 [119]; the smallest weights where they are not unique."""
    weights = np.zeros(counts.shape[1])
    used = np.flatnonzero(counts.any(axis=0))  # others would only slow the fit down
    weights[used] = np.linalg.lstsq(counts[:, used], y, rcond=None)[0]
    return weights


def visits(shards: ShardSet, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Shard, np.ndarray]]:
    """(places in `rows`, shard, rows of that shard) for every shard that is touched."""
    owner = np.searchsorted(shards.starts, rows, side="right") - 1
    for index in np.unique(owner).tolist():
        chosen = np.flatnonzero(owner == index)
        yield chosen, shards.shards[index], np.asarray(rows)[chosen] - shards.starts[index]
