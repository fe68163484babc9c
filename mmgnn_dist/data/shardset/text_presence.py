"""Which molecules of a shard set have text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet


def presence(batch: pa.RecordBatch, field: str) -> np.ndarray:
    """Which molecules of a shard have a text field, bool [rows]."""
    if field not in CONTEXT_FIELDS:
        return np.asarray(batch.column(field).is_valid())
    context = batch.column("context").flatten().to_numpy().reshape(len(batch), len(CONTEXT_FIELDS))
    return ~np.isnan(context[:, CONTEXT_FIELDS.index(field)])


def with_text(shards: ShardSet, fields: Sequence[str]) -> np.ndarray:
    """Which molecules have at least one of some text fields, bool [rows]."""
    batches = [shard.table.to_batches()[0] for shard in shards.shards]
    return np.concatenate([np.any([presence(batch, name) for name in fields], axis=0) for batch in batches])
