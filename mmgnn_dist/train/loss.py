"""The loss of a global batch, over the labels present.

The loss of a target is the mean over its labelled molecules in the global batch, and the loss is the weighted
mean over targets with the weights of the recipe:

    L = sum_t w_t (1 / n_t) sum_{b: labelled} l(scaled_bt - target_bt) / sum_t w_t

The parts of all micro-batches and ranks therefore add up to it exactly, and a target with few labels in a
batch weighs as much as one with many.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from mmgnn_dist.config import TrainConfig


def target_weights(targets: list[str], config: TrainConfig) -> torch.Tensor:
    """Return the weights of the targets in loss and validation score, float32 [T]."""
    return torch.tensor([config.weights.get(name, 1.0) for name in targets])


def scaled_loss(
    kind: str,
    scaled: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Compute the part of one micro-batch of this rank in the loss of the global batch.

    Args:
        kind: l1, mse or huber.
        scaled: scaled predictions [B, T].
        target: scaled labels [B, T].
        mask: bool [B, T], true where there is a label.
        labels: labelled molecules of each target in the whole global batch [T].
        weights: weights of the targets [T].
    """
    # without a label the difference is zero, and so is its gradient
    labels_or_scaled = torch.where(mask, target, scaled.detach())
    functions: dict[str, Any] = {"l1": F.l1_loss, "mse": F.mse_loss, "huber": F.huber_loss}
    elementwise = functions[kind](scaled, labels_or_scaled, reduction="none")
    return (weights * elementwise.sum(0) / labels.clamp(min=1)).sum() / weights.sum()
