"""Parts of the molecules of a test, by size and by text: intervals may cover some of them too rarely."""

from __future__ import annotations

import numpy as np

from mmgnn_dist.data.shardset.groups import sizes
from mmgnn_dist.data.shardset.text_presence import with_text
from mmgnn_dist.train.inputs import Inputs

THIRDS = (1 / 3, 2 / 3)


def strata(inputs: Inputs, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return which molecules belong to each part, bool [R] by name; parts without molecules are left out.

    Args:
        inputs: the molecules, with the recipe of the model.
        rows: global rows of the molecules [R].
    """
    atoms = sizes(inputs.shards)[rows]
    if not len(atoms):
        return {}
    low, high = np.quantile(atoms, THIRDS, method="lower")
    found = {
        f"up to {low} atoms": atoms <= low,
        f"{low + 1} to {high} atoms": (atoms > low) & (atoms <= high),
        f"over {high} atoms": atoms > high,
    }
    if inputs.files is not None:
        has = with_text(inputs.shards, list(inputs.recipe.text.fields))[rows]
        found |= {"with text": has, "without text": ~has}
    return {name: chosen for name, chosen in found.items() if chosen.any()}
