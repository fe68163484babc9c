"""The loss of a global batch, over the labels present.

The loss of a target is the mean over its labelled molecules in the global batch, and the loss is the weighted
mean over targets with the weights of the recipe. For classes, l is the cross entropy times a weight with
which all classes of the training part count alike:

    L = sum_t w_t (1 / n_t) sum_{b: labelled} l(scaled_bt - target_bt) / sum_t w_t

The parts of all micro-batches and ranks therefore add up to it exactly, and a target with few labels in a
batch weighs as much as one with many.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from mmgnn_dist.config import TrainConfig
from mmgnn_dist.models.heads import Heads


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
    heads: Heads | None = None,
    prior: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the part of one micro-batch of this rank in the loss of the global batch.

    Args:
        kind: l1, mse or huber.
        scaled: scaled predictions [B, T].
        target: scaled labels [B, T].
        mask: bool [B, T], true where there is a label.
        labels: labelled molecules of each target in the whole global batch [T].
        weights: weights of the targets [T].
        heads: outputs of each target, if some are classes; `scaled` is then [B, O], and `target` has the
            numbers of classes for them.
        prior: logarithm of the share of each class, [O]; ignored for numbers.
    """
    if heads is not None and heads.classed:
        elementwise = _with_classes(kind, scaled, target, mask, heads, prior)
        return (weights * elementwise.sum(0) / labels.clamp(min=1)).sum() / weights.sum()
    elementwise = _differences(kind, scaled, target, mask)
    return (weights * elementwise.sum(0) / labels.clamp(min=1)).sum() / weights.sum()


def _differences(kind: str, scaled: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Losses of numbers [B, T], zero without a label."""
    # without a label the difference is zero, and so is its gradient
    labels_or_scaled = torch.where(mask, target, scaled.detach())
    functions: dict[str, Any] = {"l1": F.l1_loss, "mse": F.mse_loss, "huber": F.huber_loss}
    losses: torch.Tensor = functions[kind](scaled, labels_or_scaled, reduction="none")
    return losses


def _with_classes(
    kind: str,
    scaled: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    heads: Heads,
    prior: torch.Tensor | None,
) -> torch.Tensor:
    """Losses of numbers and classes [B, T], zero without a label."""
    assert prior is not None
    columns: list[torch.Tensor] = [scaled.new_zeros(0)] * len(heads.classes)
    numbers = heads.numbers
    if numbers:
        losses = _differences(kind, scaled[:, heads.number_outputs], target[:, numbers], mask[:, numbers])
        for place, column in zip(numbers, losses.unbind(1), strict=True):
            columns[place] = column
    for place in heads.classed:
        outputs = heads.outputs(place)
        chosen = torch.where(mask[:, place], target[:, place], 0.0).long()
        # a class of share p weighs 1 / (K p), so that the mean weight of a label is one
        weight = torch.exp(-prior[outputs]).to(scaled.dtype) / len(heads.classes[place])
        losses = F.cross_entropy(scaled[:, outputs], chosen, reduction="none") * weight[chosen]
        columns[place] = torch.where(mask[:, place], losses, 0.0)
    return torch.stack(columns, dim=1)
