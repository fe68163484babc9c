"""Counts the pages that appear while a large block is taken, filled and freed; started with a ZeRO stage."""

from __future__ import annotations

import resource
import sys

import torch

from mmgnn_dist.config import load_recipe
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.train.engine import BatchPlan, make_engine
from mmgnn_dist.train.ranks import init_distributed

SMALL = "model.backbone={name: schnet, hidden: 8, filters: 8, interactions: 1, gaussians: 4, cutoff: 5.0}"


def main() -> int:
    """Print the number for five blocks as large as MiniLM's embeddings."""
    recipe = load_recipe(None, [SMALL, "model.modality=graph", f"train.zero_stage={sys.argv[1]}"])
    make_engine(FusedModel(recipe, ["sum"], None), recipe, BatchPlan(8, 1, 1), init_distributed(1).device)
    for _ in range(20):  # first the blocks find their places
        torch.ones(12_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(12_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return 0
