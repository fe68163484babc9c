"""Predictions for molecules of any source that `mmgnn data prepare` reads; labels are not needed.

    sources → shard set in a temporary folder → exported model of a run → table by molecule id

Molecules that cannot be read are set aside, with the reason, in a file next to the table.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgnn_dist.chem.checks import NO_CHARGE, UNSEEN, UNSEEN_STATE
from mmgnn_dist.chem.states.electronic_state import TrainedStates
from mmgnn_dist.chem.targets import TARGETS, Target
from mmgnn_dist.config import DataConfig, Recipe
from mmgnn_dist.data.prepare.pipeline import PrepareResult, prepare
from mmgnn_dist.data.prepare.plan import TrainedModelSpec
from mmgnn_dist.data.shardset.manifest import MoleculeCounts
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path
from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.predict.domain import flags
from mmgnn_dist.predict.rows import InputRows, input_rows
from mmgnn_dist.predict.table import PredictionFacts, prediction_table
from mmgnn_dist.process import owned_folder
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.application.apply import apply_export
from mmgnn_dist.train.application.conformal import COVERED, check_level
from mmgnn_dist.train.application.text_coverage import missing_text
from mmgnn_dist.train.application.trained_on import trained_on, trained_on_note
from mmgnn_dist.train.checkpoint.export import OLD_EXPORT, in_trained_words, read_export, states_of
from mmgnn_dist.train.evaluate import Predictions
from mmgnn_dist.train.inputs import Inputs, open_inputs

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FORMATS = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True)
class Predicted:
    """Predictions for the molecules of some sources.

    Attributes:
        table: one row for each row of the sources (see `prediction_table`).
        rows: what became of each of them.
        predictions: predictions of the molecules that were kept.
        units: unit of each target.
        counts: molecules `in`, `kept` and `set_aside`, with `reasons`.
        notes: lines on the sources, and on differences between these molecules and the training set.
    """

    table: pa.Table
    rows: InputRows
    predictions: Predictions
    units: dict[str, str]
    counts: MoleculeCounts
    notes: list[str]


@dataclass(frozen=True)
class Outcome:
    """Result of a prediction that was written.

    Attributes:
        out: path of the table.
        units: unit of each target.
        counts: molecules `in`, `kept` and `set_aside`, with `reasons`.
        aside: table of the molecules set aside, None if there are none.
        notes: lines on the sources, and on differences between these molecules and the training set.
    """

    out: Path
    units: dict[str, str]
    counts: MoleculeCounts
    aside: Path | None
    notes: list[str]


@dataclass(frozen=True)
class Asked:
    """What a prediction is asked for, beside model and molecules.

    Attributes:
        text: tables of text fields to join.
        overrides: overrides of the recipe, such as data.units or data.workers.
        level: share of molecules that the intervals cover, one of `conformal.LEVELS`.
        vectors: also keep the vectors of the molecules.
        quiet: show no progress.
    """

    text: Sequence[Path] = ()
    overrides: Sequence[str] = ()
    level: float = COVERED
    vectors: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class PreparedMolecules:
    """Molecules that a model can read.

    Attributes:
        inputs: their shard set, with the recipe of the model.
        export: description of the model.
        result: what became of them in the preparation.
    """

    inputs: Inputs
    export: ExportRecord
    result: PrepareResult


def predict_molecules(run: Path, sources: list[str], out: Path, asked: Asked) -> Outcome:
    """Predict the targets of a run for the molecules of some sources, and write a table of them.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        sources: sources as for `mmgnn data prepare`.
        out: table to write, `.parquet`, `.csv` or `.jsonl`: see `table.prediction_table`.
        asked: text, overrides and level of the prediction.

    Raises:
        UserError: as in `predict_sources`; the suffix is wrong, or `out` cannot be written.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"{out}: tables are written as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    open_bundle(run, list(asked.overrides))
    with owned_folder(_writable(out), ".predict-") as temporary:
        found = predict_sources(run, sources, temporary, asked)
        _write(out, found.table)
        aside = None
        if found.counts["set_aside"]:
            aside = out.with_name(f"{out.stem}.set_aside.parquet")
            shutil.copyfile(temporary / "shards" / "quarantine.parquet", aside)
    return Outcome(out, found.units, found.counts, aside, found.notes)


def predict_sources(run: Path, sources: list[str], folder: Path, asked: Asked) -> Predicted:
    """Predict the targets of a run for the molecules of some sources.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        sources: sources as for `mmgnn data prepare`.
        folder: folder for the shard set of the molecules, `shards`.
        asked: text, overrides and level of the prediction.

    Raises:
        UserError: as in `prepare_molecules`; there is no such level.
    """
    check_level(asked.level)
    with Progress("predict", asked.quiet) as progress:
        prepared = prepare_molecules(run, sources, folder, asked, progress)
        inputs, export = prepared.inputs, prepared.export
        predictions = apply_export(run, inputs, progress, asked.vectors)
    known = trained_on(RunDir(run), inputs.shards, predictions.rows)
    calibration = export.get("calibration", {})
    facts = PredictionFacts(
        export["units"],
        flags(inputs, predictions.rows, known, export.get("learned_from")),
        calibration,
        asked.level,
    )
    rows = input_rows(inputs.shards)
    table = prediction_table(rows, predictions, facts)
    notes = _notes(prepared, known)
    return Predicted(table, rows, predictions, export["units"], prepared.result.counts, notes)


def prepare_molecules(
    run: Path, sources: list[str], folder: Path, asked: Asked, progress: Progress
) -> PreparedMolecules:
    """Prepare the molecules of some sources for a trained model.

    Text comes from the providers that the training set had, unless an override names others. Molecules with
    elements, charges or multiplicities on which the model was not trained are set aside; so are ions without
    a charge, if the model was trained on charges.

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
    result = prepare(sources, folder / "shards", list(asked.text), data, progress, spec)
    local_recipe = in_trained_words(recipe, export).model_copy(
        update={"data": data.model_copy(update={"shards": folder / "shards"})}
    )
    return PreparedMolecules(open_inputs(local_recipe, whole=True), export, result)


def _notes(prepared: PreparedMolecules, known: np.ndarray | None) -> list[str]:
    """Lines on the sources, and on differences between these molecules and those of the training."""
    inputs, export, result = prepared.inputs, prepared.export, prepared.result
    learned = export.get("learned_from")
    notes = [*result.notes, *([] if learned else [OLD_EXPORT])]
    if learned and result.counts["reasons"].get(UNSEEN):
        notes.append(f"elements that the model was trained on: {', '.join(learned['elements'])}")
    notes += trained_on_note(known)
    notes += _state_notes(states_of(export), result.counts, inputs.shards)
    notes += missing_text(inputs, learned)
    notes += _missing_choice(inputs, bool(learned and learned.get("selected_fields", False)))
    if "calibration" not in export:
        notes.append("the model was exported by an older version: it has no intervals")
    return notes


def _preparation(
    recipe: Recipe, export: ExportRecord, overrides: list[str]
) -> tuple[DataConfig, TrainedModelSpec]:
    """Return how the molecules are prepared: as those of the training were, without labels."""
    learned = export.get("learned_from")
    update: dict[str, Any] = {"max_bad_fraction": 1.0}  # the result reports all molecules set aside
    if learned and learned["providers"] and not any(word.startswith("data.providers=") for word in overrides):
        update["providers"] = learned["providers"]
        update["check_names"] = learned.get("check_names", recipe.data.check_names)
    if not any(word.startswith("data.workers=") for word in overrides):
        update["workers"] = 0  # those of the training are for its own sources: small ones need no Ray
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


def _writable(out: Path) -> Path:
    """The nearest existing parent folder of `out`, for temporary files; `out` itself is made at the end."""
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{out} cannot be written: give another place for -o")
    return folder


def _state_notes(trained: TrainedStates | None, counts: MoleculeCounts, shards: ShardSet) -> list[str]:
    """Lines on charges and multiplicities that the model does not know, or that the sources do not give."""
    if trained is None:
        if not shards.has_states:
            return []
        return ["the model was exported by an older version: it does not read charge and multiplicity"]
    charges = ", ".join(map(str, trained.charges))
    multiplicities = ", ".join(map(str, trained.multiplicities))
    known = f"the model was trained on charge {charges} and multiplicity {multiplicities}"
    notes = []
    if counts["reasons"].get(UNSEEN_STATE):
        notes.append(known)
    if counts["reasons"].get(NO_CHARGE):
        notes.append(f"{known}: give columns charge and multiplicity, or a SMILES instead of a geometry")
    elif not trained.neutral_singlets and not shards.has_states:
        notes.append(f"{known}, and all molecules are taken as neutral singlets: give columns of other ones")
    return notes


def _missing_choice(inputs: Inputs, trained: bool) -> list[str]:
    """A line on molecules that read all fields, where those of the training chose some."""
    selection = inputs.shards.manifest.get("selection")
    if not trained or inputs.files is None or not inputs.recipe.text.selected_fields:
        return []
    if selection and selection["molecules"]:
        return []
    return [
        "the model was trained on molecules that choose their text fields, and these have no column "
        "selected_fields: each reads all fields of the model"
    ]


def _write(out: Path, table: pa.Table) -> None:
    import pyarrow.csv
    import pyarrow.parquet as pq

    with atomic_path(out) as part:
        if out.suffix == ".jsonl":
            with part.open("w", encoding="utf-8") as lines:
                for row in table.to_pylist():
                    lines.write(json.dumps({name: _json_value(value) for name, value in row.items()}) + "\n")
        elif out.suffix == ".parquet":
            pq.write_table(table, part)
        else:
            pyarrow.csv.write_csv(table, part)


def _json_value(value: Any) -> Any:
    """A value of a table for JSON, which has no number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
