"""The text of some molecules beside that of the training set of a model."""

from __future__ import annotations

from mmgnn_dist.run_records import LearnedFrom
from mmgnn_dist.train.inputs import Inputs

LOW_TEXT_COVERAGE = 0.5  # below this fraction of the coverage in training, a note reports the text field


def missing_text(inputs: Inputs, learned: LearnedFrom | None) -> list[str]:
    """A line on text fields of a model that far fewer molecules have than in training.

    Args:
        inputs: the molecules, with the recipe of the model.
        learned: what the model was trained on.
    """
    here, trained = inputs.shards.manifest.get("coverage", {}), learned["coverage"] if learned else {}
    if inputs.files is None or not here:
        return []
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
