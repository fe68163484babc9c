"""The fields that a shard set chooses for each molecule: its column `selected_fields`.

Someone else has chosen them, a language model for instance (xChemAgents, arXiv 2505.20574). A molecule
without an entry reads all fields of the recipe; one with an entry reads those of them that the entry names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.data.shardset.shards import SELECTED, ShardSet


def read_selection(shards: ShardSet, fields: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Which molecules read each field, bool [rows]; None if the set chooses no fields."""
    if SELECTED not in shards.shards[0].table.column_names:
        return None
    entries = shards.column(SELECTED).combine_chunks()
    missing = np.asarray(entries.is_null(), dtype=bool)
    row, names = pc.list_parent_indices(entries).to_numpy(), entries.flatten()
    chosen = {}
    for field in fields:
        mask = missing.copy()
        mask[row[np.asarray(pc.equal(names, pa.scalar(field, names.type)), dtype=bool)]] = True
        chosen[field] = mask
    return chosen
