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

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import RunMetrics
from mmgnn_dist.study.grid import BASE, Cell, load_grid
from mmgnn_dist.study.run import states
from mmgnn_dist.study.run_cell import DONE


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
        share: ratio n_test / n_train.
    """

    reference: np.ndarray
    other: np.ndarray
    folds: np.ndarray
    runs: list[tuple[np.ndarray, np.ndarray]]
    share: float


@dataclass
class Results:
    """Results of the finished cells of a study.

    Attributes:
        folder: study directory.
        recipe: recipe of the study.
        cells: all cells with their states.
        targets: names of the targets.
        units: unit of each target.
        rows: global rows of the test molecules of all folds, concatenated [n].
        folds: fold of each test molecule [n].
        metrics: metrics of the finished cells.
        errors: signed errors [n_fold] by model, target, fold and seed.
    """

    folder: Path
    recipe: Recipe
    cells: dict[Cell, str]
    targets: list[str]
    units: dict[str, str]
    rows: np.ndarray
    folds: np.ndarray
    metrics: dict[Cell, RunMetrics] = field(default_factory=dict)
    errors: dict[tuple[Model, str], dict[tuple[int, int], np.ndarray]] = field(default_factory=dict)

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
        sides, runs, share = [], [], []
        for target in self.targets:
            first, second = self.mae(reference, target), self.mae(other, target)
            shared = _crossed(set(first) & set(second))
            sides.append([self.absolute(model, target, shared) for model in (reference, other)])
            shape = len({fold for fold, _ in shared}), -1 if shared else 0
            maes = [np.array([m[run] for run in shared]).reshape(shape) for m in (first, second)]
            runs.append((maes[0], maes[1]))
        for cell, metrics in self.metrics.items():
            if Model(cell.backbone, cell.arm, cell.variant) == other:
                share.append(metrics["molecules"]["test"] / metrics["molecules"]["train"])
        x, y = np.array(sides).transpose(1, 2, 0)
        return Pair(x, y, self.folds, runs, float(np.mean(share)) if share else np.nan)


def _crossed(runs: set[tuple[int, int]]) -> list[tuple[int, int]]:
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
            model = Model(cell.backbone, cell.arm, cell.variant)
            errors.setdefault((model, target), {})[cell.fold, cell.seed] = (
                table[f"{target}_pred"].to_numpy() - true
            )
    found = stored_recipe(runs[done[0]]).data.shards
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shards": found})})
    folds = sorted(tested)
    ids = np.concatenate([tested[fold] for fold in folds])
    assert recipe.data.shards is not None
    shards = ShardSet.open(recipe.data.shards, verify=False)
    row_of = {name: row for row, name in enumerate(shards.ids().tolist())}
    return Results(
        folder,
        recipe,
        cell_states,
        list(recipe.targets),
        {t: shards.units[t] for t in recipe.targets},
        np.array([row_of[name] for name in ids.tolist()]),
        np.repeat(folds, [len(tested[fold]) for fold in folds]),
        metrics,
        errors,
    )
