"""Predicted training cost of a molecule from its atoms and tokens, to give ranks shares of equal cost.

The forward operations of the graph are counted on molecules of the training part, two of each of several
sizes, so the counts include the real edges, triplets and cutoff; other sizes are interpolated. The operations
of the language model follow from the matrices of its layers: 2 per weight and token in the forward pass, and
as many each for the gradients of the states and of the weights. `TEXT_RATES` and the `cost_rate` of the
backbone convert operations to time.

The prediction reads no clock: shares that differ between runs would change sums and dropout, and a run that
is killed and continued would not end like an uninterrupted one.
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

# Operations per second in a training step of the language model, relative to float32; for a backbone this is
# the `cost_rate` of its settings. Measured by tests/benchmarks/balance.py
TEXT_RATES = {"fp32": 1.0, "bf16": 1.8}
SIZES, EACH = 6, 2  # number of sizes whose operations are counted, molecules per size


def predict_costs(recipe: Recipe, files: EncoderFiles | None, shards: ShardSet, rows: np.ndarray) -> Costs:
    """Predict the costs of the molecules of a recipe.

    Args:
        recipe: the recipe, with the final widths of its backbone.
        files: files of the text encoder, None if no encoder is used.
        shards: the shard set.
        rows: global rows of the training part.
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
    # every molecule has a positive cost, even if its text has no tokens and its graph is not read
    return Costs(graph + 0.01 * max(graph[atoms[rows]].mean(), token, 1.0), token)


def _graph_costs(config: Backbone, shards: ShardSet, rows: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Operations of a training step of one molecule by number of atoms, [largest number of atoms + 1]."""
    part_atoms = atoms[rows]
    sizes = np.unique(np.quantile(part_atoms, np.linspace(0, 1, SIZES), method="nearest"))
    with torch.random.fork_rng(devices=[]):  # leaves the random state of the model's initialisation untouched
        backbone = make_backbone(config)
    backbone.train()
    counted = []
    for size in sizes.tolist():
        sample = rows[np.flatnonzero(part_atoms == size)[:EACH]]
        (batch,) = next(Loader(shards, sample, [], batch=EACH, shuffle=False).epoch()).micro
        graph = Graph.make(batch.z, batch.pos, batch.ptr)
        with torch.no_grad():  # the gradients of inputs and of weights cost as much each: factor 3 below
            operations = count_forward(backbone, lambda graph=graph: backbone(graph))  # type: ignore[misc]
        counted.append(3 * sum(operations.values()) / len(sample))
    # only other parts of the set can have larger molecules: they get the cost of the largest size
    return np.interp(np.arange(atoms.max() + 1), sizes, counted)


def _matrices(files: EncoderFiles) -> int:
    """Number of weights in the matrices of an encoder's layers; loads no weights."""
    _, layers = layers_of(text_skeleton(files))
    return sum(p.numel() for p in layers.parameters() if p.ndim >= 2)
