"""Duplicate ids over a whole preparation, without a Python object per molecule.

Ids are compared by 64-bit hashes; where two hashes are equal the strings decide, so a collision loses no
molecule. The first occurrence in source order stays. A second pass over the result changes nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import DUPLICATE
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.prepare.chunks import Staging
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.data.prepare.statistics import shard_statistics
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord
from mmgnn_dist.data.shardset.hashing import hash_strings
from mmgnn_dist.data.shardset.shards import Shard, without_plain_states, write_shard


def later_occurrences(shards: list[Path]) -> list[np.ndarray]:
    """Rows of each shard whose id already occurs in an earlier row of the set, sorted, int64."""
    hashes = [hash_strings(Shard(path).table["id"]) for path in shards]  # one file open at a time
    starts = np.cumsum([0, *(len(part) for part in hashes)])
    every = np.concatenate(hashes)
    order = np.argsort(every, kind="stable")
    same = every[order[1:]] == every[order[:-1]]
    suspect = np.zeros(len(every), bool)
    suspect[order[1:][same]] = True
    suspect[order[:-1][same]] = True
    rows = [np.flatnonzero(suspect[starts[k] : starts[k + 1]]) for k in range(len(shards))]
    ids = [
        Shard(path).table["id"].take(pa.array(local)).combine_chunks()
        for path, local in zip(shards, rows, strict=True)
        if len(local)
    ]
    if not ids:
        return rows
    codes = pa.concat_arrays(ids).dictionary_encode().indices.to_numpy()
    later = np.ones(len(codes), bool)
    later[np.unique(codes, return_index=True)[1]] = False
    ends = np.cumsum([len(local) for local in rows])
    return [local[part] for local, part in zip(rows, np.split(later, ends[:-1]), strict=True)]


def drop_duplicates(plan: PreparePlan, staging: Staging) -> None:
    """Set later occurrences of an id aside: rewrite the affected shards and records."""
    paths = [staging.shard(chunk) for chunk in range(len(plan.chunks))]
    for chunk, local in enumerate(later_occurrences(paths)):
        set_rows_aside(plan, staging, chunk, local, DUPLICATE, [""] * len(local))


def set_rows_aside(
    plan: PreparePlan, staging: Staging, chunk: int, local: np.ndarray, reason: str, details: list[str]
) -> None:
    """Set rows of a staged shard aside: rewrite the shard, then its record.

    Args:
        plan: the plan of the preparation.
        staging: its staging folder.
        chunk: number of the chunk.
        local: rows of its shard, sorted.
        reason: one of `checks.REASONS`.
        details: detail of each row.
    """
    if not len(local):
        return
    batch = Shard(staging.shard(chunk)).table.to_batches()[0]
    record = staging.read_record(chunk)
    positions = kept_positions(record)[local]
    names = batch.column("id").take(pa.array(local)).to_pylist()
    for name, position, detail in zip(names, positions.tolist(), details, strict=True):
        source, row = record["origins"][position] if record["origins"] else origin_of(plan, chunk, position)
        record["quarantine"].append(
            {"at": position, "id": name, "source": source, "row": row, "reason": reason, "detail": detail}
        )
    aside = {entry["at"] for entry in record["quarantine"]}
    record["notes"] = [entry for entry in record["notes"] if entry["at"] not in aside]
    keep = np.ones(len(batch), bool)
    keep[local] = False
    rest = without_plain_states(batch.filter(pa.array(keep)))
    record["entry"] = write_shard(staging.shard(chunk), rest)
    record["summary"] = shard_statistics(rest, plan.names, (*TEXT_FIELDS, *plan.own_fields))
    staging.write_record(chunk, record)


def kept_positions(record: ChunkRecord) -> np.ndarray:
    """Positions, among the rows that were read into a chunk, of those that its shard has."""
    return np.delete(np.arange(record["in"]), [entry["at"] for entry in record["quarantine"]])


def origin_of(plan: PreparePlan, chunk: int, place: int) -> tuple[str, int]:
    """Source and row of the molecule at position `place` of the rows read into a chunk."""
    for source, start, rows in plan.chunks[chunk]:
        if place < rows:
            return plan.sources[source].name, start + place
        place -= rows
    raise IndexError(f"chunk {chunk} has no place {place}")
