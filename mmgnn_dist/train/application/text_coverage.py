"""The text of some molecules beside that of the training set of a model."""

from __future__ import annotations

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.run_records import LearnedFrom

LOW_TEXT_COVERAGE = 0.5  # below this fraction of the coverage in training, a note reports the text field


def missing_text(recipe: Recipe, shards: ShardSet, learned: LearnedFrom | None) -> list[str]:
    """A line on text fields of a model that far fewer molecules have than in training.

    Args:
        recipe: recipe of the model.
        shards: a set whose manifest counts the molecules.
        learned: what the model was trained on.
    """
    here, trained = shards.manifest.get("coverage", {}), learned["coverage"] if learned else {}
    if not recipe.model.reads_text or not here:
        return []
    shares = {name: (here[name] / max(shards.rows, 1), trained.get(name, 0.0)) for name in recipe.text.fields}
    scarce = [
        f"{name} {now:.0%} ({then:.0%} in training)"
        for name, (now, then) in shares.items()
        if now < LOW_TEXT_COVERAGE * then
    ]
    if not scarce:
        return []
    return [f"molecules with text: {', '.join(scarce)}; join tables of text with --text"]
