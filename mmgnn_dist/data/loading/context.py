"""Physical context: the numeric text fields as numbers, standardised on the training part.

Mean and standard deviation of each field are computed in float64 over the training molecules that have it; a
field that none of them has counts as absent everywhere. The model reads the standardised numbers together
with their mask, which distinguishes an absent value (0, the mean) from an average one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmgnn_dist.data.shardset.references import visits
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet


@dataclass(frozen=True)
class ContextScaler:
    """Mean and standard deviation of the context, one of each per entry of `CONTEXT_FIELDS`.

    Attributes:
        mean: float32 [C]; 0 for a field that the training part lacks.
        std: float32 [C]; 1 for a field that is constant or absent there.
        count: molecules of the training part that have the field, int64 [C].
    """

    mean: Tensor
    std: Tensor
    count: Tensor

    def __call__(self, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise a batch.

        Args:
            context: raw numbers, float32 [B, C] (`Batch.context`).
            mask: which of them are known, bool [B, C] (`Batch.context_mask`).

        Returns:
            Standardised numbers [B, C], 0 where unknown; and a mask, bool [B, C], of the values that are
            known and whose field occurs in the training part.
        """
        usable = mask & (self.count > 0)
        return torch.where(usable, (context - self.mean) / self.std, 0.0), usable

    def to(self, device: torch.device | str) -> ContextScaler:
        """Return the scaler on another device."""
        return ContextScaler(self.mean.to(device), self.std.to(device), self.count.to(device))


def fit_context(shards: ShardSet, rows: np.ndarray) -> ContextScaler:
    """Fit mean and standard deviation on the given global rows (the training part), int64 [R]."""
    field_count = len(CONTEXT_FIELDS)
    count, total, squares = np.zeros(field_count, np.int64), np.zeros(field_count), np.zeros(field_count)
    for _, shard, local in visits(shards, rows):
        values = shard.context[local].astype(np.float64)
        count += (~np.isnan(values)).sum(axis=0)
        total += np.nansum(values, axis=0)
    mean = total / np.maximum(count, 1)
    for _, shard, local in visits(shards, rows):
        squares += np.nansum((shard.context[local] - mean) ** 2, axis=0)
    std = np.sqrt(squares / np.maximum(count, 1))
    std[std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)] = (
        1.0  # constant except for rounding: no scale to divide by
    )
    return ContextScaler(
        torch.from_numpy(mean.astype(np.float32)),
        torch.from_numpy(std.astype(np.float32)),
        torch.from_numpy(count),
    )
