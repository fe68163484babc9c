"""Physical context: the numeric text fields as numbers, standardised on the training part.

Mean and standard deviation of each field are those of the training molecules that have it, in float64; a
field that none of them has is never present. The model reads the standardised numbers beside their mask, so
that an absent value (0, the mean) is told from an average one.
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
    """What standardises the context, one number for each of `CONTEXT_FIELDS`.

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
            mask: which are known, bool [B, C] (`Batch.context_mask`).

        Returns:
            Standardised numbers [B, C], 0 where unknown; and which are known and were in the training part.
        """
        known = mask & (self.count > 0)
        return torch.where(known, (context - self.mean) / self.std, 0.0), known

    def to(self, device: torch.device | str) -> ContextScaler:
        """The same on another device."""
        return ContextScaler(self.mean.to(device), self.std.to(device), self.count.to(device))


def fit_context(shards: ShardSet, rows: np.ndarray) -> ContextScaler:
    """Fit on the given global rows (the training part), int64 [R]."""
    fields = len(CONTEXT_FIELDS)
    count, total, squares = np.zeros(fields, np.int64), np.zeros(fields), np.zeros(fields)
    for _, shard, local in visits(shards, rows):
        values = shard.context[local].astype(np.float64)
        count += (~np.isnan(values)).sum(axis=0)
        total += np.nansum(values, axis=0)
    mean = total / np.maximum(count, 1)
    for _, shard, local in visits(shards, rows):
        squares += np.nansum((shard.context[local] - mean) ** 2, axis=0)
    std = np.sqrt(squares / np.maximum(count, 1))
    std[std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)] = (
        1.0  # constant but for rounding: no scale to divide by
    )
    return ContextScaler(
        torch.from_numpy(mean.astype(np.float32)),
        torch.from_numpy(std.astype(np.float32)),
        torch.from_numpy(count),
    )
