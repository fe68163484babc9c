"""Flags on molecules that a model was trained on, or that are unlike those of its training.

Elements, charges and multiplicities that the model has never seen have weights that were never trained:
such molecules are set aside, not flagged.
"""

from __future__ import annotations

import numpy as np

from mmgnn_dist.data.shardset.groups import sizes
from mmgnn_dist.data.shardset.text_presence import with_text
from mmgnn_dist.run_records import LearnedFrom
from mmgnn_dist.train.inputs import Inputs

TRAINED_ON = "trained on"
SMALLER, LARGER = "smaller than in training", "larger than in training"
NO_TEXT = "no text"


def flags(
    inputs: Inputs, rows: np.ndarray, known: np.ndarray | None, about: LearnedFrom | None
) -> list[list[str]]:
    """Return the flags of each molecule, an empty list for one of the kind of the training.

    `trained on`: the model has learned its label, if it had one. `smaller` and `larger than in training`: it
    has fewer or more atoms than every molecule of the training. `no text`: it has no text field that the
    model reads.

    Args:
        inputs: the molecules, with the recipe of the model.
        rows: global rows of the molecules [R].
        known: whether the model was trained on each of them, bool [R]; None if its export does not say.
        about: what the model was trained on; None for an old export.
    """
    found: list[list[str]] = [[] for _ in rows]

    def flag(word: str, chosen: np.ndarray) -> None:
        for place in np.flatnonzero(chosen):
            found[place].append(word)

    if known is not None:
        flag(TRAINED_ON, known)
    if about is not None and "atoms" in about:
        atoms, (least, most) = sizes(inputs.shards)[rows], about["atoms"]
        flag(SMALLER, atoms < least)
        flag(LARGER, atoms > most)
    if inputs.files is not None:
        flag(NO_TEXT, ~with_text(inputs.shards, list(inputs.recipe.text.fields))[rows])
    return found
