"""Vectors of test molecules before any training, where a run keeps its vectors: what to compare them with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mmgnn_dist.train.evaluate import evenly_spaced, predict
from mmgnn_dist.train.report.results import MOST_VECTORS
from mmgnn_dist.train.stages.build import Built
from mmgnn_dist.train.stages.setting import Setting


def save_untrained(setting: Setting, built: Built) -> None:
    """Write the vectors of the initial weights, if a graph-only run keeps its vectors; all ranks take part.

    They follow from the seed, so a run that continues writes the same. Random draws of training stay as they
    are.
    """
    inputs, ranks = setting.inputs, setting.ranks
    recipe = inputs.recipe
    if not recipe.train.save_vectors or recipe.model.modality != "graph":
        return
    rows = np.unique(inputs.split["test"])
    rows = rows[evenly_spaced(len(rows), MOST_VECTORS)]  # the molecules of which the trained vectors are kept
    some = replace(inputs, split={**inputs.split, "test": rows})
    devices = [ranks.device] if ranks.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        found = predict(
            built.model,
            some.ordered("test", built.text.tokens, ranks),
            built.scaler.to(ranks.device),
            ranks,
            built.text.embeddings,
            vectors=True,
        )
    if found is not None:
        found.save_vectors(setting.run.untrained, MOST_VECTORS)
