"""The published split of a data set, where its sources are its parts.

The published training and validation parts are `train` and `val`. A split needs a test part that no choice
was made on: as many molecules as validate, at most a tenth of the training part, are drawn from it by
identity.
"""

from __future__ import annotations

import numpy as np

from mmgnn_dist.chem.readers.tables.pcqm4mv2 import PCQM_SPLIT
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord
from mmgnn_dist.data.shardset.groups import identities
from mmgnn_dist.data.shardset.hashing import hash_strings
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import PARTS, TENTH, write_split

SEED = 42


def store_own_split(plan: PreparePlan, records: list[ChunkRecord], shards: ShardSet) -> None:
    """Store the published split, if the sources of a preparation are the parts of one.

    Args:
        plan: the preparation.
        records: record of each chunk.
        shards: the finished set.
    """
    if {source.part for source in plan.sources} < {"train", "val"} or not all(s.part for s in plan.sources):
        return
    parts = np.concatenate([_parts(plan, chunk, record) for chunk, record in enumerate(records)])
    names = identities(shards).dictionary_encode()
    codes = names.indices.to_numpy()
    validates = np.bincount(codes[parts == 1], minlength=len(names.dictionary)) > 0
    counts = np.bincount(codes, minlength=len(names.dictionary))
    order = np.argsort(hash_strings(names.dictionary, seed=SEED), kind="stable")
    order = order[~validates[order]]
    wanted = min(int((parts == 1).sum()), int(TENTH * (parts == 0).sum()))
    drawn = np.zeros(len(names.dictionary), bool)
    drawn[order[: int(np.searchsorted(np.cumsum(counts[order]), max(wanted, 1))) + 1]] = True
    parts[drawn[codes]] = 2
    if len(np.unique(parts)) == len(PARTS):
        write_split(
            shards, PCQM_SPLIT, [parts], {"kind": "published", "seed": SEED, "folds": 1, "group": "identity"}
        )


def _parts(plan: PreparePlan, chunk: int, record: ChunkRecord) -> np.ndarray:
    """Return the index into PARTS of each molecule that was kept of a chunk."""
    parts = [np.full(rows, PARTS.index(plan.sources[source].part)) for source, _, rows in plan.chunks[chunk]]
    return np.delete(np.concatenate(parts), [entry["at"] for entry in record["quarantine"]])
