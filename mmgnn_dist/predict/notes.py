"""What the user should know about predictions: how the molecules differ from those of the training."""

from __future__ import annotations

from mmgnn_dist.chem.checks import NO_CHARGE, UNSEEN, UNSEEN_STATE
from mmgnn_dist.chem.states.electronic_state import TrainedStates
from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.manifest import MoleculeCounts
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.application.text_coverage import missing_text
from mmgnn_dist.train.application.trained_on import trained_on_note
from mmgnn_dist.train.checkpoint.export import OLD_EXPORT, states_of


def prediction_notes(
    recipe: Recipe, export: ExportRecord, shards: ShardSet, counts: MoleculeCounts, known: int | None
) -> list[str]:
    """Lines on differences between some molecules and those of the training of a model.

    Args:
        recipe: recipe of the model.
        export: description of its export.
        shards: a set whose manifest counts the molecules.
        counts: what became of them.
        known: how many of them the model was trained on; None if its export does not say.
    """
    learned = export.get("learned_from")
    notes = [] if learned else [OLD_EXPORT]
    if learned and counts["reasons"].get(UNSEEN):
        notes.append(f"elements that the model was trained on: {', '.join(learned['elements'])}")
    notes += trained_on_note(known, counts["kept"])
    notes += _state_notes(states_of(export), counts, shards)
    notes += missing_text(recipe, shards, learned)
    notes += _missing_choice(recipe, shards, bool(learned and learned.get("selected_fields", False)))
    coverage = shards.manifest.get("coverage", {})
    if recipe.model.context and not any(coverage.get(name) for name in CONTEXT_FIELDS):
        notes.append(
            f"the model reads physical context, and no molecule has any of {', '.join(CONTEXT_FIELDS)}"
        )
    if "calibration" not in export:
        notes.append("the model was exported by an older version: it has no intervals")
    return notes


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


def _missing_choice(recipe: Recipe, shards: ShardSet, trained: bool) -> list[str]:
    """A line on molecules that read all fields, where those of the training chose some."""
    selection = shards.manifest.get("selection")
    if not trained or not recipe.model.reads_text or not recipe.text.selected_fields:
        return []
    if selection and selection["molecules"]:
        return []
    return [
        "the model was trained on molecules that choose their text fields, and these have no column "
        "selected_fields: each reads all fields of the model"
    ]
