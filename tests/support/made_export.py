"""An exported model with random weights, for tests of what is done with a trained one: no step is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.config import Recipe
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.export import encoder_identity, export_model, learned_from
from mmgnn_dist.train.inputs import fit_scaler, open_inputs
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.text_data import open_text_data

SMALL = {
    "schnet": {"hidden": 8, "filters": 8, "interactions": 2, "gaussians": 10, "cutoff": 5.0},
    "painn": {"hidden": 8, "interactions": 2, "radial": 8, "cutoff": 5.0},
    "dimenetpp": {"hidden": 8, "triplet": 4, "basis": 4, "output": 8, "blocks": 1},
    "equiformer": {"layers": 1, "heads": 1, "features": 16, "gaussians": 10},
    "faenet": {"hidden": 40, "filters": 16, "interactions": 1, "gaussians": 10},
}


def make_export(folder: Path, shards: Path, **sections: Any) -> RunDir:
    """Export a model of a recipe with random weights and the scaler of a shard set."""
    recipe = Recipe.model_validate({"data": {"shards": str(shards)}, **sections})
    inputs = open_inputs(recipe, verify=False)
    ranks = init_distributed(1)
    text = open_text_data(inputs, ranks, Progress("test", quiet=True))
    model = inputs.model(text.source, None)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.readout.parameters():  # read-outs start at zero
            parameter.normal_(std=0.3)
    run = RunDir(folder)
    recipe.save(run.recipe)
    run.export.mkdir(parents=True)
    about = {
        "step": 0,
        "score": None,
        "targets": inputs.metrics,
        "backbone": inputs.backbone_values,
        "encoder": encoder_identity(inputs.files),
        "units": dict(zip(recipe.targets, inputs.units, strict=True)),
        "kinds": dict(zip(recipe.targets, inputs.kinds, strict=True)),
        "learned_from": learned_from(inputs.shards, inputs.split["train"]),
        "reads_states": inputs.shards.has_states,
    }
    export_model(run, model, fit_scaler(inputs), about)
    return run
