"""What a molecule costs in training, predicted from its atoms and its tokens, for shares of equal cost.

The graph's forward operations are counted on molecules of the training part itself, two of each of some
sizes, so edges, triplets and cutoff are in them as they are; sizes in between are interpolated. The language
model's follow from the matrices of its layers: 2 a weight and token forward, as much for the gradient of the
states and as much for that of the weights. Operations become time by `TEXT_RATES` and
the backbone's `cost_rate`.

Nothing here reads a clock: shares that differed from run to run would change sums and dropout, and a run
that was killed would not end as the one that was not.
"""

from __future__ import annotations

import numpy as np
import torch

from mmgnn_dist.config import Backbone, Recipe
from mmgnn_dist.data.loading.balance import Costs
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.cost import count_forward
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.text_encoder.hf_model import layers_of, text_skeleton

# Operations a second of a training step of the language model, as a share of those in float32; each
# backbone's share is the `cost_rate` of its settings. Measured by tests/benchmarks/balance.py
TEXT_RATES = {"fp32": 1.0, "bf16": 1.8}
SIZES, EACH = 6, 2  # sizes whose operations are counted, and molecules of each


def predict_costs(recipe: Recipe, files: EncoderFiles | None, shards: ShardSet, rows: np.ndarray) -> Costs:
    """The costs of a recipe's molecules.

    Args:
        recipe: with the backbone as wide as it is built.
        files: the encoder, None where none is read.
        shards: the shard set.
        rows: its training part, global rows.
    """
    atoms = np.concatenate([np.diff(shard.ptr) for shard in shards.shards])
    graph = np.zeros(atoms.max() + 1)
    if recipe.model.modality != "text":
        graph = _graph_costs(recipe.model.backbone, shards, rows, atoms) / recipe.model.backbone.cost_rate
    token = 0.0
    if files is not None and recipe.model.reads_text:
        weights = _matrices(files)
        passes = {"frozen": 0, "lora": 2, "full": 3}[recipe.text.mode]
        passes += recipe.text.checkpointing and recipe.text.mode != "frozen"
        token = 2.0 * weights * passes / TEXT_RATES["fp32" if recipe.train.precision == "fp32" else "bf16"]
    # every molecule costs something, even where its text has no tokens and its graph is not read
    return Costs(graph + 0.01 * max(graph[atoms[rows]].mean(), token, 1.0), token)


def _graph_costs(config: Backbone, shards: ShardSet, rows: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Operations of a training step of a molecule by its number of atoms, [most atoms + 1]."""
    part_atoms = atoms[rows]
    sizes = np.unique(np.quantile(part_atoms, np.linspace(0, 1, SIZES), method="nearest"))
    with torch.random.fork_rng(devices=[]):  # the model's start values are drawn elsewhere
        backbone = make_backbone(config)
    backbone.train()
    counted = []
    for size in sizes.tolist():
        sample = rows[np.flatnonzero(part_atoms == size)[:EACH]]
        (batch,) = next(Loader(shards, sample, [], batch=EACH, shuffle=False).epoch()).micro
        graph = Graph.make(batch.z, batch.pos, batch.ptr)
        with torch.no_grad():  # the gradients of inputs and of weights take as much again each
            operations = count_forward(backbone, lambda graph=graph: backbone(graph))  # type: ignore[misc]
        counted.append(3 * sum(operations.values()) / len(sample))
    # beyond the largest size, which only other parts of the set can have, a molecule costs as the largest
    return np.interp(np.arange(atoms.max() + 1), sizes, counted)


def _matrices(files: EncoderFiles) -> int:
    """Weights of the matrices in an encoder's layers; nothing is loaded."""
    _, layers = layers_of(text_skeleton(files))
    return sum(p.numel() for p in layers.parameters() if p.ndim >= 2)
