"""Grid of a study: expands its recipe to cells, each the recipe of one run.

The base of a study has every arm of every backbone in every fold with every seed. A variant changes one
setting of the base (fusion, text mode, fields, number of training molecules) and trains only the arms that
this setting affects. For example, a graph-only run has no text mode, so the base run is also compared with
the text runs of a text-mode variant. All cells of a fold share molecules, order, steps and seeds; the name of
a cell says what differs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mmgnn_dist.config import AGAIN_SEED, CONTROLS, FOLD_SEED, Recipe, StudyConfig, load_stored_recipe
from mmgnn_dist.config.load import check_section, set_key
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split, split_folds
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.study.run_cell import DONE, cell_state

CELLS, RECIPE = "cells.json", "study.yaml"
BASE = "base"
BY_FIELD = ("without-", "alone-")  # how names of variants of text.fields begin
SIZED = ("graph", "both", "shuffled")  # arms of the learning curve


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        number: index in the grid.
        name: name of its run directory below `cells/`.
        backbone, arm, variant: the model; `variant` is `base` or the change from it, such as `size-500`.
        targets: targets that the model learns.
        fold, seed: fold of the split and seed of the run; `again` adds `AGAIN_SEED` to it, and a fold with
            seeds of its own `FOLD_SEED` times its number.
    """

    number: int
    name: str
    backbone: str
    arm: str
    variant: str
    targets: tuple[str, ...]
    fold: int
    seed: int

    def run(self, study: Path) -> Path:
        """Run directory of the cell in a study directory."""
        return study / "cells" / self.name


def make_grid(recipe: Recipe) -> dict[Cell, Recipe]:
    """Expand a recipe to all cells of its study, with the recipe of each cell.

    Raises:
        UserError: if the recipe has no section `study`, a split or fold does not exist, a size exceeds the
            number of training molecules, or an override gives an invalid recipe.
    """
    study = recipe.study
    if study is None:
        raise UserError(
            f"{recipe.name} has no section study: add one (see launch/quick.yaml), or use 'mmgnn train'"
        )
    if recipe.data.shards is None:
        raise UserError("the recipe names no shard set: give data.shards=DIR (made by 'mmgnn data prepare')")
    shards = ShardSet.open(recipe.data.shards)
    folds = study.folds or list(range(split_folds(shards, recipe.data.split)))
    trained = {fold: len(load_split(shards, recipe.data.split, fold)["train"]) for fold in folds}
    groups = [tuple(recipe.targets)] if study.targets == "together" else [(t,) for t in recipe.targets]
    backbones = study.backbones or {recipe.model.backbone.name: {}}
    arms = [(name, *arm) for name in backbones for arm in _arms(recipe, study, name)]
    # the base comes first, replicate by replicate, so that a half-finished study has whole replicates
    order = sorted(product(folds, study.seeds, arms), key=lambda place: place[2][1] != BASE)
    cells: dict[Cell, Recipe] = {}
    for (fold, seed, (backbone, variant, arm, changes)), targets in product(order, groups):
        own_seed = seed + AGAIN_SEED * (arm == "again") + FOLD_SEED * fold * study.own_seeds
        axes = {"targets": list(targets), "data.fold": fold, "train.seed": own_seed}
        own = study.by_target.get(targets[0], {})
        varied = changes
        if variant.startswith(BY_FIELD) and "text.fields" in own:
            kept = _varied_fields(variant, own["text.fields"])
            if kept is None:  # the target does not read this field, or it alone
                continue
            varied = {**changes, "text.fields": kept}
        part = _recipe(recipe, {**backbones[backbone], **own, **varied, **axes}, trained[fold])
        parts = [backbone, arm] + [variant] * (variant != BASE) + [targets[0]] * (len(groups) > 1)
        name = "-".join([*parts, f"f{fold}", f"s{seed}"])
        cell = Cell(len(cells), name, backbone, arm, variant, targets, fold, seed)
        cells[cell] = part.grouped(recipe.name).model_copy(update={"name": name})
    return cells


def _arms(recipe: Recipe, study: StudyConfig, backbone: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every (variant, arm) of a backbone with its changes to the recipe."""
    for arm in study.arms:
        yield BASE, arm, _arm(arm)
    if study.variants_of and backbone not in study.variants_of:
        return
    varied = [arm for arm in study.arms if arm != "again"]
    for fusion in study.fusions:
        for arm in varied:
            yield f"fusion-{fusion}", arm, {**_arm(arm), "model.fusion": fusion}
    for mode in study.modes:
        for arm in varied:
            if arm not in ("graph", "fingerprint", "random_weights"):  # the latter are frozen
                yield f"mode-{mode}", arm, {**_arm(arm), "text.mode": mode}
    fields = list(recipe.text.fields)
    for kind in study.fields if len(fields) > 1 else []:
        for field in fields:
            variant = f"{kind}-{field}"
            yield variant, "both", {**_arm("both"), "text.fields": _varied_fields(variant, fields)}
    for size in study.sizes:
        for arm in study.arms:
            if arm in SIZED:
                yield f"size-{size}", arm, {**_arm(arm), "data.train_size": size}


def _varied_fields(variant: str, fields: list[str]) -> list[str] | None:
    """The fields of a variant `without-FIELD` or `alone-FIELD`; None if it is no variant of these fields."""
    kind, _, field = variant.partition("-")
    if field not in fields or len(fields) < 2:
        return None
    return [field] if kind == "alone" else [name for name in fields if name != field]


def _arm(arm: str) -> dict[str, Any]:
    """Recipe keys that an arm sets."""
    if arm == "again":  # differs from graph in its seed alone
        arm = "graph"
    if arm in CONTROLS:
        return {"model.modality": "both", "text.control": arm}
    return {"model.modality": arm, "text.control": "none"}


def _recipe(recipe: Recipe, changes: dict[str, Any], trained: int) -> Recipe:
    """Build the recipe of a cell; `trained` is the number of training molecules of its fold.

    A smaller training set gets more epochs, so that every size has the same number of steps and validations,
    or `study.size_steps` if these are more.
    """
    raw = recipe.model_dump(mode="json")
    raw |= {"study": None, "twins": []}
    raw["train"] |= {"save_vectors": True, "threads": recipe.train.threads or 1}
    for key, value in changes.items():
        set_key(raw, key, copy.deepcopy(value))
    for section, key in (("model", "readout"), ("train", "weights")):  # of the targets of this cell
        of_targets = raw[section][key]
        raw[section][key] = {name: of_targets[name] for name in raw["targets"] if name in of_targets}
    size = changes.get("data.train_size")
    if size is not None:
        if size > trained:
            raise UserError(
                f"study.sizes: {size} is more than the {trained} training molecules of fold "
                f"{changes['data.fold']} of {recipe.data.shards}"
            )
        train = raw["train"]
        all_steps, steps = (-(-count // train["batch"]) for count in (trained, size))
        total = train["epochs"] * all_steps
        train["max_steps"] = min(total, train["max_steps"] or total)
        if recipe.study and recipe.study.size_steps:
            train["min_steps"] = max(train["min_steps"], recipe.study.size_steps)
            train["max_steps"] = max(train["max_steps"], recipe.study.size_steps)
        train["epochs"] = -(-max(total, train["max_steps"]) // steps)
        train["validate_every"] = max(1, round(train["validate_every"] * all_steps / steps))
    return check_section(raw, Recipe, "a cell of the study")


def save_grid(folder: Path, recipe: Recipe, cells: dict[Cell, Recipe]) -> None:
    """Write the recipe of the study, the recipe of each unfinished run and, last, the list of cells."""
    recipe.save(folder / RECIPE)
    for cell, part in cells.items():
        run_dir = cell.run(folder)
        # an unfinished run takes the settings that may change between sessions, such as a deadline
        if cell_state(run_dir) != DONE:
            part.save(RunDir(run_dir).recipe)
    write_json(folder / CELLS, [asdict(cell) for cell in cells])


def load_grid(folder: Path) -> tuple[Recipe, list[Cell]]:
    """Read the recipe and the cells of a study directory.

    Raises:
        UserError: if the directory holds no study.
    """
    if not (folder / CELLS).is_file():
        raise UserError(f"no study at {folder}: give a directory made by 'mmgnn study'")
    cells = [Cell(**{**line, "targets": tuple(line["targets"])}) for line in read_json(folder / CELLS)]
    return load_stored_recipe(folder / RECIPE), cells
