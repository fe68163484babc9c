"""How molecules are prepared for a trained model: as those of its training were, without labels.

Text comes from the providers that the training set had, unless an override names others. Molecules with
elements, charges or multiplicities on which the model was not trained are set aside; so are ions without a
charge, if the model was trained on charges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmgnn_dist.chem.targets import TARGETS, Target
from mmgnn_dist.config import DataConfig, Recipe
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.prepare.plan import TrainedModelSpec, cut_chunks, make_prepare_plan
from mmgnn_dist.data.shardset.shards import MANIFEST
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import may_write
from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.predict.portions import FilePortions, PortionInputs, Portions, StoredPortions
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.application.conformal import COVERED
from mmgnn_dist.train.checkpoint.export import in_trained_words, read_export, states_of
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.stored.recipe import sidecar_folder

PORTION = 4096  # rows; a model on one core takes seconds for them
COSTLY_PORTION = 256  # rows of which each needs a conformer or a name


@dataclass(frozen=True)
class Asked:
    """What a prediction is asked for, beside model and molecules.

    Attributes:
        text: tables of text fields to join.
        overrides: overrides of the recipe, such as data.units.
        level: share of molecules that the intervals cover, one of `conformal.LEVELS`.
        vectors: also keep the vectors of the molecules.
        quiet: show no progress.
        nproc: processes on this machine.
    """

    text: Sequence[Path] = ()
    overrides: Sequence[str] = ()
    level: float = COVERED
    vectors: bool = False
    quiet: bool = False
    nproc: int = 1


def prepare_molecules(
    run: Path, sources: list[str], folder: Path, asked: Asked, progress: Progress
) -> Inputs:
    """Prepare a few molecules for a trained model, as a shard set of their own.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        sources: sources as for `mmgnn data prepare`.
        folder: folder for the shard set of the molecules, `shards`.
        asked: text and overrides of the prediction.
        progress: progress on the terminal.

    Raises:
        UserError: `run` has no trained model, sources cannot be read, or no molecule is left.
    """
    recipe = open_bundle(run, list(asked.overrides))
    export = read_export(RunDir(run))
    data, spec = _preparation(recipe, export, list(asked.overrides))
    prepare(sources, folder / "shards", list(asked.text), data, progress, spec)
    data = data.model_copy(update={"shards": folder / "shards"})
    return open_inputs(in_trained_words(recipe, export).model_copy(update={"data": data}), whole=True)


def plan_portions(
    run: Path, recipe: Recipe, export: ExportRecord, sources: list[str], tables: Path, asked: Asked
) -> Portions:
    """Read the sources once and divide them into portions.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        recipe: its recipe.
        export: description of its export.
        sources: sources as for `mmgnn data prepare`, or one shard set.
        tables: folder for staged tables of text, and for text sidecars that can be written nowhere else.
        asked: text and overrides of the prediction.

    Raises:
        UserError: a source cannot be read.
    """
    if len(sources) == 1 and (Path(sources[0]) / MANIFEST).is_file():
        if asked.text:
            raise UserError(f"{sources[0]} is a shard set and has its text: leave --text out")
        inputs = _stored(run, recipe, export, Path(sources[0]), tables)
        return StoredPortions(inputs, export, _portion_rows(recipe, asked, PORTION))
    data, spec = _preparation(recipe, export, list(asked.overrides))
    plan = make_prepare_plan(sources, list(asked.text), data, spec)
    costly = "names" in plan.providers or any(source.embeds for source in plan.sources)
    most = _portion_rows(recipe, asked, COSTLY_PORTION if costly else PORTION)
    chunks = cut_chunks([source.rows for source in plan.sources], most)
    return FilePortions(
        in_trained_words(recipe, export), replace(plan, chunks=chunks, rows_per_shard=most), tables
    )


def _portion_rows(recipe: Recipe, asked: Asked, usual: int) -> int:
    """Return the most rows of a portion: the usual number, if no override gives another."""
    given = any(word.startswith("data.rows_per_shard=") for word in asked.overrides)
    return recipe.data.rows_per_shard if given else usual


def _stored(run: Path, recipe: Recipe, export: ExportRecord, shards: Path, tables: Path) -> Inputs:
    """Open a shard set for a model; text sidecars that can be written nowhere else are temporary."""
    update: dict[str, Any] = {"shards": shards}
    cache = sidecar_folder(
        recipe.model_copy(update={"data": recipe.data.model_copy(update=update)}), RunDir(run)
    )
    if cache is not None and not may_write(cache):
        update["cache"] = tables / "text-cache"
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=update)})
    found = open_inputs(in_trained_words(recipe, export), whole=True, run=RunDir(run), model=export)
    return PortionInputs(found.recipe, found.shards, found.split, found.files, None, found.verified)


def _preparation(
    recipe: Recipe, export: ExportRecord, overrides: list[str]
) -> tuple[DataConfig, TrainedModelSpec]:
    """Return how the molecules are prepared: as those of the training were, without labels."""
    learned = export.get("learned_from")
    update: dict[str, Any] = {"max_bad_fraction": 1.0}  # the result reports all molecules set aside
    if learned and learned["providers"] and not any(word.startswith("data.providers=") for word in overrides):
        update["providers"] = learned["providers"]
        update["check_names"] = learned.get("check_names", recipe.data.check_names)
    update["workers"] = 0  # those of the training are for its own sources
    update["conformers"] = recipe.data.conformers.model_copy(
        update={"keep": "lowest"}
    )  # one row for each row
    own = learned.get("text_columns", {}) if learned else {}
    update["text_columns"] = own | recipe.data.text_columns
    kinds, classes = export.get("kinds", {}), export.get("classes", {})
    targets = tuple(
        TARGETS.get(name)
        or Target(name, unit, kinds.get(name, "intensive"), classes=tuple(classes.get(name, ())))
        for name, unit in export["units"].items()
    )
    spec = TrainedModelSpec(targets, tuple(learned["elements"]) if learned else None, states_of(export))
    return recipe.data.model_copy(update=update), spec
