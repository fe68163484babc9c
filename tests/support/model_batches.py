"""Molecules and batches for the tests of models: made ones, and real ones of the bundled sample."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import torch

from mmgnn_dist.chem.readers.find import sample_path
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.models.graph import Graph


def random_molecules(sizes: list[int], seed: int = 0, dtype: torch.dtype = torch.float64):
    """Molecules of the given sizes: z [N], pos [N, 3] (Å, about 1.5 apart), ptr."""
    make = torch.Generator().manual_seed(seed)
    total = sum(sizes)
    z = torch.tensor([1, 6, 7, 8, 9])[torch.randint(5, (total,), generator=make)]
    pos = 2.5 * torch.randn(total, 3, generator=make, dtype=dtype)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return z, pos, ptr


def real_molecules(
    count: int, dtype: torch.dtype, target: str | None = None
) -> Graph | tuple[Graph, torch.Tensor]:
    """Molecules of the sample, spread over it, as a batch; with a target [count] if one is named."""
    columns = ["atomic_numbers", "positions"] + ([target] if target else [])
    table = pq.read_table(sample_path(), columns=columns)
    rows = table.take(np.linspace(10, table.num_rows - 1, count).astype(int)).to_pydict()
    z = torch.tensor([number for one in rows["atomic_numbers"] for number in one])
    pos = torch.tensor([x for one in rows["positions"] for x in one], dtype=dtype).view(-1, 3)
    ptr = torch.tensor([0, *(len(one) for one in rows["atomic_numbers"])]).cumsum(0)
    graph = Graph.make(z, pos, ptr)
    return (graph, torch.tensor(rows[target], dtype=dtype)) if target else graph


def batch_of(sizes: list[int], texts: list[list[int]], seed: int = 0, targets: int = 2) -> Batch:
    """A batch of random molecules with given token lists."""
    z, pos, ptr = random_molecules(sizes, seed, torch.float32)
    count = len(sizes)
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.int64)
    token_ptr = torch.tensor([0, *(len(text) for text in texts)]).cumsum(0)
    return Batch(
        rows=torch.arange(count),
        z=z,
        pos=pos,
        ptr=ptr,
        y=torch.zeros(count, targets, dtype=torch.float64),
        y_mask=torch.ones(count, targets, dtype=torch.bool),
        tokens=tokens,
        token_ptr=token_ptr,
        context=torch.zeros(count, 6),
        context_mask=torch.zeros(count, 6, dtype=torch.bool),
    )
