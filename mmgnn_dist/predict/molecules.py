"""Predictions for molecules of any source that `mmgnn data prepare` reads; labels are not needed.

    sources → shard set in a temporary folder → exported model of a run → table by molecule id

Molecules that cannot be read are set aside, with the reason, in a file next to the table.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgnn_dist.chem.checks import NO_CHARGE, UNSEEN, UNSEEN_STATE
from mmgnn_dist.chem.states.electronic_state import TrainedStates
from mmgnn_dist.chem.targets import TARGETS, Target
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.prepare.plan import TrainedModelSpec
from mmgnn_dist.data.shardset.manifest import MoleculeCounts
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json
from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.process import owned_folder
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.export import OLD_EXPORT, in_trained_words, states_of
from mmgnn_dist.train.evaluate import Predictions
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.session import apply_export

FORMATS = (".parquet", ".csv")
LOW_TEXT_COVERAGE = 0.5  # below this fraction of the coverage in training, a note reports the text field


@dataclass(frozen=True)
class Outcome:
    """Result of a prediction.

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


def predict_molecules(
    run: Path, sources: list[str], out: Path, text: list[Path], overrides: list[str], quiet: bool
) -> Outcome:
    """Predict the targets of a run for the molecules of some sources.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        sources: sources as for `mmgnn data prepare`.
        text: tables of text fields to join.
        out: table to write, `.parquet` or `.csv`: `id`, the targets in their units (of classes the
            name, and the probability of each), `gate` if there is one.
        overrides: overrides of the recipe, such as data.units or data.workers.
        quiet: show no progress.

    Text comes from the providers that the training set had, unless `overrides` names others. Molecules with
    elements, charges or multiplicities on which the model was not trained are set aside; so are ions without
    a charge, if the model was trained on charges.

    Raises:
        UserError: `run` has no trained model, sources cannot be read, no molecule is left, the suffix is
            wrong, or `out` cannot be written.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"{out}: tables are written as {' or '.join(FORMATS)}")
    recipe = open_bundle(run, overrides)
    export = read_json(RunDir(run).export_about)
    units, trained_on, states = export["units"], export.get("learned_from", {}), states_of(export)
    update: dict[str, Any] = {"max_bad_fraction": 1.0}  # the result reports all molecules set aside
    if trained_on.get("providers") and not any(word.startswith("data.providers=") for word in overrides):
        update["providers"] = trained_on["providers"]
        update["check_names"] = trained_on.get("check_names", recipe.data.check_names)
    update["text_columns"] = trained_on.get("text_columns", {}) | recipe.data.text_columns
    data = recipe.data.model_copy(update=update)
    kinds, classes = export.get("kinds", {}), export.get("classes", {})
    targets = tuple(
        TARGETS.get(name)
        or Target(name, unit, kinds.get(name, "intensive"), classes=tuple(classes.get(name, ())))
        for name, unit in units.items()
    )
    with owned_folder(_writable(out), ".predict-") as temporary:
        shard_folder = temporary / "shards"
        with Progress("predict", quiet) as progress:
            result = prepare(
                sources,
                shard_folder,
                text,
                data,
                progress,
                TrainedModelSpec(targets, trained_on.get("elements"), states),
            )
            local_recipe = in_trained_words(recipe, export).model_copy(
                update={"data": data.model_copy(update={"shards": shard_folder})}
            )
            inputs = open_inputs(local_recipe, whole=True)
            predictions = apply_export(run, inputs, progress)
        _write(out, inputs.shards.ids(predictions.rows), recipe.targets, predictions)
        aside = None
        if result.counts["set_aside"]:
            aside = out.with_name(f"{out.stem}.set_aside.parquet")
            shutil.copyfile(shard_folder / "quarantine.parquet", aside)
    notes = [*result.notes, *([] if trained_on else [OLD_EXPORT])]
    if result.counts["reasons"].get(UNSEEN):
        notes.append(f"elements that the model was trained on: {', '.join(trained_on['elements'])}")
    notes += _state_notes(states, result.counts, inputs.shards)
    notes += _missing_text(inputs, trained_on.get("coverage", {}))
    notes += _missing_choice(inputs, trained_on.get("selected_fields", False))
    return Outcome(out, units, result.counts, aside, notes)


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


def _missing_text(inputs: Inputs, trained: dict[str, float]) -> list[str]:
    """A line on text fields of the model that far fewer molecules have than in training."""
    if inputs.files is None:
        return []
    here = inputs.shards.manifest["coverage"]
    shares = {
        name: (here[name] / inputs.shards.rows, trained.get(name, 0.0)) for name in inputs.recipe.text.fields
    }
    scarce = [
        f"{name} {now:.0%} ({then:.0%} in training)"
        for name, (now, then) in shares.items()
        if now < LOW_TEXT_COVERAGE * then
    ]
    if not scarce:
        return []
    return [f"molecules with text: {', '.join(scarce)}; join tables of text with --text"]


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


def _write(out: Path, ids: np.ndarray, targets: list[str], predictions: Predictions) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"id": ids}
    for place, name in enumerate(targets):
        names = predictions.heads.classes[place]
        values = predictions.predicted[:, place]
        columns[name] = [names[int(k)] for k in values] if names else values
        for k, label in enumerate(names):
            columns[f"{name}_p_{label}"] = predictions.probabilities[place][:, k]
    if predictions.gate is not None:
        columns["gate"] = predictions.gate
    with atomic_path(out) as part:
        write = pq.write_table if out.suffix == ".parquet" else pyarrow.csv.write_csv
        write(pa.table(columns), part)
