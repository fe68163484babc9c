"""Made molecules and batches for the tests of models."""

from __future__ import annotations

import torch

from mmgnn_dist.data.batch import Batch


def random_molecules(sizes: list[int], seed: int = 0, dtype: torch.dtype = torch.float64):
    """Molecules of the given sizes: z [N], pos [N, 3] (Å, about 1.5 apart), ptr."""
    make = torch.Generator().manual_seed(seed)
    total = sum(sizes)
    z = torch.tensor([1, 6, 7, 8, 9])[torch.randint(5, (total,), generator=make)]
    pos = 2.5 * torch.randn(total, 3, generator=make, dtype=dtype)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return z, pos, ptr


def batch_of(sizes: list[int], texts: list[list[int]], seed: int = 0, targets: int = 2) -> Batch:
    """A batch of random molecules with given token lists."""
    z, pos, ptr = random_molecules(sizes, seed, torch.float32)
    count = len(sizes)
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.int64)
    token_ptr = torch.tensor([0, *(len(text) for text in texts)]).cumsum(0)
    return Batch(
        rows=torch.arange(count), z=z, pos=pos, ptr=ptr, y=torch.zeros(count, targets, dtype=torch.float64),
        y_mask=torch.ones(count, targets, dtype=torch.bool), tokens=tokens, token_ptr=token_ptr,
        context=torch.zeros(count, 6), context_mask=torch.zeros(count, 6, dtype=torch.bool),
    )  # fmt: skip
