"""Predictions of the finished cells of a study, aligned: the same molecules in the same order.

A comparison uses only the folds and seeds that both models have, so a half-finished study still compares like
with like. All cells of a fold must have tested the same molecules with the same labels; otherwise `collect`
raises an error, since a paired test would be meaningless.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.groups import identities
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import RunMetrics
from mmgnn_dist.study.grid import BASE, Cell, load_grid
from mmgnn_dist.study.run import states
from mmgnn_dist.study.run_cell import DONE
from mmgnn_dist.study.statistics.auroc_bootstrap import RunChances
from mmgnn_dist.study.statistics.bootstrap import identity_strata


@dataclass(frozen=True, order=True)
class Model:
    """A model that is compared: a backbone, an arm (its inputs) and a variant (the change from the base)."""

    backbone: str
    arm: str
    variant: str = BASE


@dataclass
class Pair:
    """Errors of two models on the same molecules.

    Attributes:
        reference, other: absolute errors, means over seeds [n, T]; NaN if a fold or label is missing.
        folds: fold of each molecule [n].
        runs: MAE of both models by target, each [K, S], over the folds and seeds that both have.
        shared: these folds and seeds, by target.
        share: ratio n_test / n_train; 0 if the training sets of the folds are disjoint.
    """

    reference: np.ndarray
    other: np.ndarray
    folds: np.ndarray
    runs: list[tuple[np.ndarray, np.ndarray]]
    shared: list[list[tuple[int, int]]]
    share: float


@dataclass
class Results:
    """Results of the finished cells of a study.

    Attributes:
        folder: study directory.
        recipe: recipe of the study.
        cells: all cells with their states.
        targets: names of the targets that are numbers.
        classes: names of the classes of the other targets, by target.
        units: unit of each target.
        rows: global rows of the test molecules of all folds, concatenated [n].
        folds: fold of each test molecule [n].
        metrics: metrics of the finished cells.
        errors: signed errors [n_fold] by model, target, fold and seed.
        chances: probabilities of the classes by model, target, fold and seed.
        true_classes: number of the class of each test molecule [n] by target, NaN without a label.
    """

    folder: Path
    recipe: Recipe
    cells: dict[Cell, str]
    targets: list[str]
    classes: dict[str, tuple[str, ...]]
    units: dict[str, str]
    rows: np.ndarray
    folds: np.ndarray
    metrics: dict[Cell, RunMetrics] = field(default_factory=dict)
    errors: dict[tuple[Model, str], dict[tuple[int, int], np.ndarray]] = field(default_factory=dict)
    chances: dict[tuple[Model, str], dict[tuple[int, int], RunChances]] = field(default_factory=dict)
    true_classes: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def done(self) -> list[Cell]:
        """The finished cells."""
        return list(self.metrics)

    @cached_property
    def shards(self) -> ShardSet:
        """The shard set of the study."""
        assert self.recipe.data.shards is not None
        return ShardSet.open(self.recipe.data.shards, verify=False)

    @cached_property
    def identities(self) -> np.ndarray:
        """Number of the identity of each test molecule [n]: stereoisomers and duplicates have one."""
        names = identities(self.shards).take(pa.array(self.rows, pa.int64()))
        return names.dictionary_encode().indices.to_numpy(zero_copy_only=False)

    @cached_property
    def apart(self) -> bool:
        """Whether every fold tests other molecules than all others."""
        return identity_strata(self.folds, self.identities).apart

    @cached_property
    def disjoint(self) -> bool:
        """Whether the folds have no training molecule in common."""
        parts = [
            load_split(self.shards, self.recipe.data.split, int(fold))["train"]
            for fold in np.unique(self.folds)
        ]
        rows = np.concatenate(parts)
        return len(np.unique(rows)) == len(rows)

    @cached_property
    def models(self) -> list[Model]:
        """Models with a finished cell, in the order of the grid."""
        return list(dict.fromkeys(Model(c.backbone, c.arm, c.variant) for c in self.done))

    @property
    def backbones(self) -> list[str]:
        """Backbones with a finished cell."""
        return list(dict.fromkeys(model.backbone for model in self.models))

    def backbones_of(self, variant: str) -> list[str]:
        """Backbones with a finished cell of the given variant."""
        return list(dict.fromkeys(model.backbone for model in self.models if model.variant == variant))

    def arms(self, variant: str = BASE) -> list[str]:
        """Arms with a finished cell of the given variant."""
        return list(dict.fromkeys(model.arm for model in self.models if model.variant == variant))

    def variants(self, kind: str) -> list[str]:
        """Variants of one kind (such as `size` or `without`) with a finished cell."""
        return list(dict.fromkeys(m.variant for m in self.models if m.variant.startswith(f"{kind}-")))

    def mae(self, model: Model, target: str) -> dict[tuple[int, int], float]:
        """Test MAE of each run of a model, by fold and seed."""
        return {
            run: float(np.nanmean(np.abs(error))) if np.isfinite(error).any() else np.nan
            for run, error in self.errors.get((model, target), {}).items()
        }

    def absolute(self, model: Model, target: str, runs: Iterable[tuple[int, int]]) -> np.ndarray:
        """Absolute error of each test molecule [n], the mean over the seeds of `runs`; NaN in other folds."""
        out = np.full(len(self.rows), np.nan)
        run_errors = self.errors.get((model, target), {})
        chosen = list(runs)
        for fold in {fold for fold, _ in chosen}:
            out[self.folds == fold] = np.mean(
                [np.abs(run_errors[run]) for run in chosen if run[0] == fold], axis=0
            )
        return out

    def pair(self, reference: Model, other: Model) -> Pair:
        """Pair two models over the folds and seeds that both have."""
        sides, runs, all_shared = [], [], []
        for target in self.targets:
            first, second = self.mae(reference, target), self.mae(other, target)
            shared = crossed(set(first) & set(second))
            all_shared.append(shared)
            sides.append([self.absolute(model, target, shared) for model in (reference, other)])
            shape = len({fold for fold, _ in shared}), -1 if shared else 0
            maes = [np.array([m[run] for run in shared]).reshape(shape) for m in (first, second)]
            runs.append((maes[0], maes[1]))
        x, y = np.array(sides).transpose(1, 2, 0)
        return Pair(x, y, self.folds, runs, all_shared, self.share(other))

    def share(self, model: Model) -> float:
        """Ratio n_test / n_train of the runs of a model; 0 if the training sets of the folds are disjoint."""
        if self.disjoint:
            return 0.0
        parts = [m["molecules"] for cell, m in self.metrics.items() if model_of(cell) == model]
        return float(np.mean([part["test"] / part["train"] for part in parts])) if parts else np.nan


def model_of(cell: Cell) -> Model:
    """The model of which a cell is a run."""
    return Model(cell.backbone, cell.arm, cell.variant)


def crossed(runs: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Combinations (fold, seed) of all folds with the seeds that every fold has."""
    folds = sorted({fold for fold, _ in runs})
    seeds = sorted(s for s in {seed for _, seed in runs} if all((fold, s) in runs for fold in folds))
    return [(fold, seed) for fold in folds for seed in seeds]


def collect(folder: Path) -> Results:
    """Read the finished cells of a study.

    Raises:
        UserError: if there is no study or no finished cell, if the data of a cell have changed since, or if
            the cells of a fold tested different molecules.
    """
    import pyarrow.parquet as pq

    from mmgnn_dist.train.provenance import refuse_changed
    from mmgnn_dist.train.stored.recipe import stored_recipe

    recipe, cells = load_grid(folder)
    cell_states = states(folder, cells)
    done = [cell for cell, state in cell_states.items() if state == DONE]
    if not done:
        raise UserError(f"no cell of {folder} is done yet: there is nothing to report")
    runs = {cell: RunDir(cell.run(folder)) for cell in done}
    refuse_changed({run.path: stored_recipe(run) for run in runs.values()})
    metrics: dict[Cell, RunMetrics] = {cell: read_json(run.metrics) for cell, run in runs.items()}
    tested: dict[int, np.ndarray] = {}
    truth: dict[tuple[int, str], np.ndarray] = {}
    errors: dict[tuple[Model, str], dict[tuple[int, int], np.ndarray]] = {}
    chances: dict[tuple[Model, str], dict[tuple[int, int], np.ndarray]] = {}
    found = stored_recipe(runs[done[0]]).data.shards
    assert found is not None
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shards": found})})
    shards = ShardSet.open(found, verify=False)
    classes = {t: tuple(shards.classes[t]) for t in recipe.targets if shards.classes.get(t)}
    for cell in done:
        table = pq.read_table(runs[cell].predictions)
        ids = table["id"].to_numpy()
        same = np.array_equal(tested.setdefault(cell.fold, ids), ids)
        for target in cell.targets:
            true = table[f"{target}_true"].to_numpy()
            first = truth.setdefault((cell.fold, target), true)
            if not same or not np.array_equal(first, true, equal_nan=True):
                raise UserError(
                    f"{cell.name} tested other molecules than other runs of fold {cell.fold}: shard set or "
                    f"split changed under the study; remove {cell.run(folder)} and run the study again"
                )
            place, run = (model_of(cell), target), (cell.fold, cell.seed)
            if target in classes:
                columns = [table[f"{target}_p_{name}"].to_numpy() for name in classes[target]]
                chances.setdefault(place, {})[run] = np.stack(columns, 1)
            else:
                errors.setdefault(place, {})[run] = table[f"{target}_pred"].to_numpy() - true
    folds = sorted(tested)
    ids = np.concatenate([tested[fold] for fold in folds])
    row_of = {name: row for row, name in enumerate(shards.ids().tolist())}
    fold_of = np.repeat(folds, [len(tested[fold]) for fold in folds])
    places = {fold: np.flatnonzero(fold_of == fold) for fold in folds}
    return Results(
        folder,
        recipe,
        cell_states,
        [target for target in recipe.targets if target not in classes],
        classes,
        {t: shards.units[t] for t in recipe.targets},
        np.array([row_of[name] for name in ids.tolist()]),
        fold_of,
        metrics,
        errors,
        {
            place: {run: RunChances(places[run[0]], values) for run, values in by_run.items()}
            for place, by_run in chances.items()
        },
        {target: _of_folds(truth, target, places) for target in classes},
    )


def _of_folds(
    truth: dict[tuple[int, str], np.ndarray], target: str, places: dict[int, np.ndarray]
) -> np.ndarray:
    """Class of each test molecule of all folds [n]; NaN in a fold without a run of the target."""
    out = np.full(sum(len(rows) for rows in places.values()), np.nan)
    for fold, rows in places.items():
        if (fold, target) in truth:
            out[rows] = truth[fold, target]
    return out
