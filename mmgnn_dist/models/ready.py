"""What is made on the host before a step: the pairs of the atoms, and memory from which a GPU can copy."""

from __future__ import annotations

from mmgnn_dist.data.loading.loader import Step
from mmgnn_dist.models.backbones.base import Backbone
from mmgnn_dist.models.graph import find_neighbours


def ready_step(step: Step, backbone: Backbone | None, pinned: bool) -> Step:
    """Find the pairs of the atoms on the host, so that it need not wait for their number.

    Args:
        step: a step as the loader makes it; its batches are replaced.
        backbone: the backbone; None if the model reads no graph.
        pinned: whether to copy the batches to pinned memory.
    """
    for place, batch in enumerate(step.micro):
        found = batch
        if backbone is not None and backbone.directed is not None:
            found = find_neighbours(batch, backbone.config.cutoff, backbone.directed)
        step.micro[place] = found.pinned() if pinned else found
    return step
