"""What a run takes of the trained model that it starts from, checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgnn_dist.chem.targets import readout_for
from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.references import REFERENCED, elements
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.heads import Heads
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord, same_encoder
from mmgnn_dist.train.checkpoint.export import encoder_identity, read_export
from mmgnn_dist.train.inputs import Inputs
from mmgnn_dist.train.stored.recipe import stored_recipe

PARTS = ("backbone", "text", "fusion", "readout")


@dataclass(frozen=True)
class StartPlan:
    """What is taken of a trained model.

    Attributes:
        source: its run directory, or a folder made by `mmgnn export`.
        recipe: its recipe.
        about: description of its export.
        parts: the parts that are taken, of `PARTS`.
        targets: the targets whose read-out is taken.
        outputs: outputs of the source and of this run that belong to these targets, in pairs.
        forms: read-out of each output of the source.
        notes: what is new, and what is taken.
    """

    source: RunDir
    recipe: Recipe
    about: ExportRecord
    parts: tuple[str, ...]
    targets: tuple[str, ...]
    outputs: tuple[tuple[int, int], ...]
    forms: tuple[str, ...]
    notes: tuple[str, ...]


def plan_start(inputs: Inputs) -> StartPlan | None:
    """Return what a run takes of `train.start_from`; None if it starts from random weights.

    Raises:
        UserError: there is no trained model, or a part of it does not fit the recipe.
    """
    recipe = inputs.recipe
    if recipe.train.start_from is None:
        return None
    source = RunDir(Path(recipe.train.start_from).expanduser())
    if not source.recipe.is_file() or not source.export_weights.is_file():
        raise UserError(
            f"train.start_from={source.path}: no trained model there; give a folder of 'mmgnn train' or "
            "'mmgnn export'"
        )
    other, about = stored_recipe(source), read_export(source)
    heads, forms = _outputs(other, about)
    targets = _shared_targets(inputs, other, about["units"], heads, forms)
    there = parts_of(other, readout=True)
    here = parts_of(recipe, readout=bool(targets))
    wanted: list[str] = [*(recipe.train.start_parts or [])]
    for part in wanted:
        if part not in there or part not in here:
            missing = source.path if part not in there else "this recipe"
            raise UserError(f"train.start_parts has {part}, and {missing} has none to take: leave it out")
    chosen = set(wanted) if wanted else set(here) & set(there)
    parts = tuple(part for part in PARTS if part in chosen)
    for part in parts:
        if why := _misfit(part, inputs, other, about):
            rest = [name for name in parts if name != part]
            raise UserError(
                f"{part} of {source.path} does not fit: {why}; make it equal, or leave it out with "
                f"train.start_parts=[{', '.join(rest)}]"
            )
    taken = targets if "readout" in parts else []
    pairs = tuple(pair for name in taken for pair in _pairs(name, inputs, other, heads))
    notes = _notes(inputs, source, about, parts, taken)
    return StartPlan(source, other, about, parts, tuple(taken), pairs, tuple(forms), tuple(notes))


def _outputs(recipe: Recipe, about: ExportRecord) -> tuple[Heads, list[str]]:
    """Return the heads of a trained model and the read-out of each of its outputs."""
    classes, kinds = about.get("classes", {}), about["kinds"]
    heads = Heads(tuple(tuple(classes.get(name, ())) for name in recipe.targets))
    forms = [
        readout_for(name, kinds[name], recipe.model.wanted_readout(name, kinds[name]))
        for name, repeats in zip(recipe.targets, heads.repeats, strict=True)
        for _ in range(repeats)
    ]
    return heads, forms


def _shared_targets(
    inputs: Inputs, other: Recipe, units: dict[str, str], heads: Heads, forms: Sequence[str]
) -> list[str]:
    """Targets that both models have, with the same unit, classes and read-out."""
    shared = []
    for place, name in enumerate(inputs.recipe.targets):
        if name not in other.targets or units[name] != inputs.units[place]:
            continue
        there, own = other.targets.index(name), inputs.heads.outputs(place)
        same_form = forms[heads.outputs(there)] == inputs.forms[own]
        if heads.classes[there] == inputs.heads.classes[place] and same_form:
            shared.append(name)
    return shared


def _pairs(name: str, inputs: Inputs, other: Recipe, heads: Heads) -> list[tuple[int, int]]:
    there = heads.outputs(other.targets.index(name))
    here = inputs.heads.outputs(inputs.recipe.targets.index(name))
    return list(zip(range(there.start, there.stop), range(here.start, here.stop), strict=True))


def parts_of(recipe: Recipe, *, readout: bool) -> list[str]:
    """The parts that the model of a recipe has, with its read-out or without."""
    has = {
        "backbone": recipe.model.reads_graph,
        "text": recipe.model.reads_text,
        "fusion": True,
        "readout": readout,
    }
    return [part for part in PARTS if has[part]]


def _misfit(part: str, inputs: Inputs, other: Recipe, about: ExportRecord) -> str:
    """Say why a part of the source does not fit this run; "" if it does."""
    own = inputs.recipe
    if part == "backbone":
        return _difference("model.backbone", dict(about["backbone"]), inputs.backbone_values)
    if part == "text":
        if not same_encoder(about["encoder"], encoder_identity(inputs.files)):
            return "it was trained with another language model"
        return _difference("text", {"mode": other.text.mode}, {"mode": own.text.mode})
    fusions = [{"fusion": recipe.model.fusion, "context": recipe.model.context} for recipe in (other, own)]
    return _difference("model", *fusions)


def _difference(section: str, there: dict[str, Any], here: dict[str, Any]) -> str:
    """Name the first key of a section that differs; what is dropped in training may."""
    for key, value in here.items():
        if there.get(key, value) != value and not key.endswith("dropout"):
            return f"{section}.{key} is {there[key]} there and {value} here"
    return ""


def _notes(
    inputs: Inputs, source: RunDir, about: ExportRecord, parts: Sequence[str], taken: Sequence[str]
) -> list[str]:
    """Lines on what is taken and what is new.

    Raises:
        UserError: atom references are to be taken, and an element has none.
    """
    own, kinds = inputs.recipe, dict(zip(inputs.recipe.targets, inputs.kinds, strict=True))
    new = [name for name in own.targets if name not in taken]
    notes = [f"starting from {source.path}: {', '.join(parts)}"]
    if new:
        notes.append(f"read-outs that start anew: {', '.join(new)}")
    learned = about.get("learned_from")
    seen = elements(inputs.shards, inputs.split["train"])
    others = [symbol for symbol in seen if learned is None or symbol not in learned["elements"]]
    if others:
        notes.append(f"elements that {source.path} has not learned: {', '.join(others)}")
    referenced = [name for name in taken if kinds[name] in REFERENCED]
    if others and referenced and own.train.start_scaling == "taken" and own.train.scaling != "raw":
        raise UserError(
            f"{source.path} has no atom references of {', '.join(others)} for {', '.join(referenced)}: fit "
            "them anew with train.start_scaling=fitted"
        )
    return notes
