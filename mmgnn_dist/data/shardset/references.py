"""Atom references and standardisation from the training part, and two trivial baseline models.

A reference is the energy (or other extensive value) that an atom of each element contributes on average: a
least-squares fit on the composition without intercept. The fit of the electronic spatial extent r2 adds
charges on the atoms: sum_i (atom_ref[z_i] + extent_ref[z_i] |r_i - r_c|^2), where r_c is the centre of mass.
The residuals are standardised. All values are float64 and computed by sums over the memory-mapped columns,
without a Python object per molecule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmgnn_dist.chem.elements import MASSES, MAX_Z, SYMBOLS
from mmgnn_dist.chem.states.electronic_state import TrainedStates
from mmgnn_dist.data.shardset.shards import Shard, ShardSet
from mmgnn_dist.errors import UserError, nearest

REFERENCED = ("extensive", "r2")  # kinds of targets that take references, and no mean


@dataclass(frozen=True)
class References:
    """Parameters that turn targets into standardised residuals and back.

    y = atom_ref · composition + extent_ref · extents + mean + std · r

    Attributes:
        targets: names, [T].
        kinds: kind of each target.
        atom_ref: per element, float64 [T, 119]; zero for targets without references.
        extent_ref: per element and Å^2 from the centre of mass, float64 [T, 119]; zero except for r2.
        mean: mean of the residual in the training part, float64 [T].
        std: standard deviation of the residual in the training part, float64 [T]; 1 where it is constant.
    """

    targets: list[str]
    kinds: list[str]
    atom_ref: np.ndarray
    extent_ref: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def composition(shards: ShardSet, rows: np.ndarray) -> np.ndarray:
    """Atoms of each element in the given global rows, float64 [R, 119], by atomic number."""
    result = np.zeros((len(rows), MAX_Z + 1))
    for chosen, shard, local in visits(shards, rows):
        atoms, molecule = _atoms(shard, local)
        result[chosen] = _by_element(molecule, shard.z[atoms], len(local))
    return result


def extents(shards: ShardSet, rows: np.ndarray) -> np.ndarray:
    """Sum of |r_i - r_c|^2 over the atoms of each element, r_c the centre of mass: Å^2, float64 [R, 119]."""
    masses = np.array(MASSES)
    result = np.zeros((len(rows), MAX_Z + 1))
    for chosen, shard, local in visits(shards, rows):
        atoms, molecule = _atoms(shard, local)
        z, pos = shard.z[atoms], shard.pos[atoms].astype(np.float64)
        mass = masses[z]
        moment = np.stack([np.bincount(molecule, mass * axis, len(local)) for axis in pos.T], axis=1)
        centre = moment / np.bincount(molecule, mass, len(local))[:, None]
        result[chosen] = _by_element(molecule, z, len(local), np.square(pos - centre[molecule]).sum(axis=1))
    return result


def elements(shards: ShardSet, rows: np.ndarray) -> list[str]:
    """Symbols of the elements in the given global rows, by atomic number."""
    present = np.zeros(MAX_Z + 1, bool)
    for _, shard, local in visits(shards, rows):
        present[shard.z[_atoms(shard, local)[0]]] = True
    return [SYMBOLS[z] for z in np.flatnonzero(present)]


def trained_states(shards: ShardSet, rows: np.ndarray) -> TrainedStates:
    """Charges and multiplicities of the given global rows, in ascending order."""
    charges, multiplicities = row_states(shards, rows)
    return TrainedStates(tuple(np.unique(charges).tolist()), tuple(np.unique(multiplicities).tolist()))


def row_states(shards: ShardSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Charge and multiplicity of each of the given global rows, int8 [R]."""
    charges, multiplicities = np.zeros(len(rows), np.int8), np.ones(len(rows), np.int8)
    for chosen, shard, local in visits(shards, rows):
        charges[chosen], multiplicities[chosen] = shard.charge[local], shard.multiplicity[local]
    return charges, multiplicities


def with_other_elements(shards: ShardSet, rows: np.ndarray, known: list[str]) -> np.ndarray:
    """Which of the given global rows have an atom of an element that is not in `known`, bool [R]."""
    other = np.ones(MAX_Z + 1, bool)
    other[[SYMBOLS.index(symbol) for symbol in known]] = False
    result = np.zeros(len(rows), bool)
    for chosen, shard, local in visits(shards, rows):
        atoms, molecule = _atoms(shard, local)
        result[chosen[molecule[other[shard.z[atoms]]]]] = True
    return result


def _atoms(shard: Shard, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atoms of some rows of a shard, and for each atom the position of its molecule in `local`."""
    sizes = shard.ptr[local + 1] - shard.ptr[local]
    inner = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(shard.ptr[local], sizes) + inner, np.repeat(np.arange(len(local)), sizes)


def _by_element(
    molecule: np.ndarray, z: np.ndarray, count: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Number of atoms, or sum of their weights, by molecule and element: [count, 119]."""
    sums = np.bincount(molecule * (MAX_Z + 1) + z, weights, count * (MAX_Z + 1))
    return sums.reshape(count, MAX_Z + 1)


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
        rows: global rows of the training part; each target uses those that have its label.
        targets: names of the targets.

    Raises:
        UserError: unknown target, or fewer than two labelled molecules for one.
    """
    y, counts = _training(shards, rows, targets)
    kinds = [shards.kinds[name] for name in targets]
    atom_ref = np.zeros((len(targets), MAX_Z + 1))
    extent_ref = np.zeros_like(atom_ref)
    mean, std = np.zeros(len(targets)), np.ones(len(targets))
    for column, kind in enumerate(kinds):
        labelled = ~np.isnan(y[:, column])
        residual = y[labelled, column]
        if kind in REFERENCED:
            features = counts[labelled]
            if kind == "r2":
                features = np.concatenate([features, extents(shards, rows[labelled])], axis=1)
            weights = _fit(features, residual)
            residual = residual - features @ weights
            atom_ref[column] = weights[: MAX_Z + 1]
            if kind == "r2":
                extent_ref[column] = weights[MAX_Z + 1 :]
        mean[column] = residual.mean()
        spread = residual.std()
        # if composition alone determines the target, the residual is rounding: no scale to divide by
        std[column] = spread if spread > 1e-12 * max(np.abs(y[labelled, column]).max(), 1e-300) else 1.0
    return References(list(targets), kinds, atom_ref, extent_ref, mean, std)


def baselines(
    shards: ShardSet, train: np.ndarray, rows: np.ndarray, targets: list[str]
) -> dict[str, np.ndarray]:
    """Predictions of two models without geometry, fitted on the training part.

    Args:
        shards: the molecules.
        train: global rows to fit on.
        rows: global rows to predict.
        targets: names of the targets.

    Returns:
        `mean` (the mean of the training part) and `composition` (a linear fit on composition with
        intercept), each float64 [R, T] in canonical units.

    Raises:
        UserError: as `fit_references`.
    """
    y, counts = _training(shards, train, targets)
    row_composition = composition(shards, rows)
    means = np.nanmean(y, axis=0)
    linear = np.empty((len(rows), len(targets)))
    for column in range(len(targets)):
        labelled = ~np.isnan(y[:, column])
        # with centred data the fit needs no intercept
        centre, offset = counts[labelled].mean(axis=0), y[labelled, column].mean()
        weights = _fit(counts[labelled] - centre, y[labelled, column] - offset)
        linear[:, column] = (row_composition - centre) @ weights + offset
    return {"mean": np.tile(means, (len(rows), 1)), "composition": linear}


def _training(shards: ShardSet, rows: np.ndarray, targets: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(labels, composition) of the training part; checks that each target has enough labels."""
    return check_labels(shards, rows, targets), composition(shards, rows)


def check_labels(shards: ShardSet, rows: np.ndarray, targets: list[str]) -> np.ndarray:
    """The labels of the training part (see `labels`), after a check that each target has enough of them.

    Raises:
        UserError: unknown target, or fewer than two labelled molecules for one.
    """
    y = labels(shards, rows, targets)
    for name, count in zip(targets, (~np.isnan(y)).sum(axis=0), strict=True):
        if count < 2:  # a spread needs two
            raise UserError(
                f"target {name} has {count} labelled molecules in the training part of {shards.path}, 2 are "
                "needed: leave it out of targets, or take another split"
            )
    return y


def _fit(counts: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares weight of each column, float64; the smallest weights where they are not unique."""
    weights = np.zeros(counts.shape[1])
    used = np.flatnonzero(counts.any(axis=0))  # others would only slow the fit down
    weights[used] = np.linalg.lstsq(counts[:, used], y, rcond=None)[0]
    return weights


def visits(shards: ShardSet, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Shard, np.ndarray]]:
    """Yield (positions in `rows`, shard, rows of that shard) for every shard that has some of the rows."""
    owner = np.searchsorted(shards.starts, rows, side="right") - 1
    for index in np.unique(owner).tolist():
        chosen = np.flatnonzero(owner == index)
        yield chosen, shards.shards[index], np.asarray(rows)[chosen] - shards.starts[index]
