"""Time of a pass of a recipe's model on this machine, for `mmgnn plan --rate measured`."""

from __future__ import annotations

import time

import torch

from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.ready import ready_step
from mmgnn_dist.models.text_encoder.encoder import TextEncoder
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.inputs import Inputs
from mmgnn_dist.train.ranks import Ranks

REPEATS = 2


def seconds_per_pass(inputs: Inputs, ranks: Ranks, progress: Progress, autocast: torch.dtype | None) -> float:
    """Measure the seconds of a forward and backward pass on one micro-batch.

    Args:
        inputs: inputs of the recipe.
        ranks: the ranks that share a step.
        progress: progress of writing token sidecars.
        autocast: type in which the language model computes, None for float32.
    """
    tokens = inputs.tokens(progress)
    source = None
    if tokens is not None and inputs.files is not None:
        width = None
        if inputs.recipe.text.mode == "frozen":
            width = TextEncoder(inputs.files, inputs.recipe.text, tokens.blank).width
        source = TextSource(inputs.files, tokens.blank, width)
    model: FusedModel = inputs.model(source, autocast).to(ranks.device).train()
    step = ready_step(next(inputs.training(tokens, ranks).epoch(0)), model.backbone, pinned=False)
    batch = step.micro[0].to(ranks.device)
    vectors = None
    if source is not None and source.width is not None:
        vectors = torch.zeros(batch.size, source.width, device=ranks.device)
    seconds = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        total = model(batch, vectors)[0].sum()
        total.backward()
        total.item()  # waits for a GPU
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])  # the first pass chooses kernels
