"""The token runs of one field in one shard: cut at the field's budget, counted, written and mapped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.data.shardset.ragged import ragged_index
from mmgnn_dist.data.shardset.shards import Shard
from mmgnn_dist.data.text.sentences import Wording, render, render_synonyms
from mmgnn_dist.data.text.sidecar_files import META, sidecar_entry
from mmgnn_dist.data.text.sidecar_records import SidecarCounts, SidecarEntry
from mmgnn_dist.data.text.tokenizer import encode, whole_names, whole_words
from mmgnn_dist.files import atomic_path


@dataclass(frozen=True)
class Runs:
    """Memory-mapped tokens of one field in one shard: run i is values[ptr[i]:ptr[i + 1]], empty where absent.

    A molecule has the run of its row. If `items` is not None, it has the runs items[row]:items[row + 1], at
    least one, and the loader takes one of them.
    """

    values: np.ndarray  # uint16 or int32 [tokens]
    ptr: np.ndarray  # int64 [runs + 1]
    items: np.ndarray | None = None  # int64 [rows + 1]

    def longest(self) -> np.ndarray:
        """Tokens of the longest run of each molecule, int64 [rows]."""
        length = np.diff(self.ptr)
        if self.items is None or not len(length):
            return length
        return np.maximum.reduceat(length, self.items[:-1])


def token_dtype(tokenizer: Any) -> type[np.generic]:
    """The integer type of stored tokens."""
    return np.uint16 if len(tokenizer) <= 1 << 16 else np.int32


def encode_field(
    texts: Sequence[str | None], wording: Wording, tokenizer: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokenise the sentences of a field and cut them at its budget.

    Args:
        texts: the sentences, None where the field is absent.
        wording: the wording of the field.
        tokenizer: the tokenizer.

    Returns:
        Tokens int64 [tokens]; where the run of each text begins, and the end, int64 [texts + 1]; tokens of
        each text before the cut, int64 [texts].
    """
    values, offsets = encode(texts, tokenizer)
    lengths, budget = np.diff(offsets), wording.budget
    if budget is None or not len(long := np.flatnonzero(lengths > budget)):
        return values, offsets, lengths
    long_texts = [texts[row] or "" for row in long.tolist()]
    if wording.cut == "names":
        shorter = dict(zip(long.tolist(), whole_names(long_texts, tokenizer, budget), strict=True))
        return *encode([shorter.get(row, text) for row, text in enumerate(texts)], tokenizer), lengths
    kept = np.minimum(lengths, budget)
    if wording.cut != "tokens":
        kept[long] = whole_words(long_texts, tokenizer, budget, budget if wording.cut == "words" else 0)
    index, ptr = ragged_index(offsets[:-1], kept)
    return values[index], ptr, lengths


def write_runs(
    path: Path,
    shard: Shard,
    shard_sha: str,
    wording: Wording,
    tokenizer: Any,
    digest: Callable[[Path], str],
) -> SidecarEntry:
    """Tokenise one field of one shard and write its sidecar.

    Args:
        path: the file.
        shard: the shard.
        shard_sha: its SHA-256.
        wording: the wording of the field.
        tokenizer: the tokenizer.
        digest: function that computes the SHA-256 of a file.
    """
    template = {wording.field: wording.sentence}
    texts: list[str | None]
    if wording.each:
        texts, entries = render_synonyms(shard.table, template)
    else:
        texts, entries = render(shard.table, wording.field, template), [1] * shard.rows
    ids, ptr, length = encode_field(texts, wording, tokenizer)
    kept = np.diff(ptr)
    molecule = np.repeat(np.arange(shard.rows), entries)
    counts: SidecarCounts = {
        "shard_sha256": shard_sha,
        "rows": shard.rows,
        "present": len(np.unique(molecule[length > 0])),
        "runs": int((length > 0).sum()),
        "tokens": int(kept.sum()),
        "cut_molecules": len(np.unique(molecule[length > kept])),
        "cut_tokens": int((length - kept).sum()),
        "unknown": 0 if tokenizer.unk_token_id is None else int((ids == tokenizer.unk_token_id).sum()),
    }
    run = pa.LargeListArray.from_arrays(pa.array(ptr), pa.array(ids.astype(token_dtype(tokenizer))))
    if wording.each:
        run = pa.LargeListArray.from_arrays(pa.array(np.cumsum([0, *entries])), run)
    batch = pa.record_batch({"run": run}).replace_schema_metadata({META: json.dumps(counts).encode()})
    with atomic_path(path) as part, pa.ipc.new_file(str(part), batch.schema) as writer:
        writer.write_batch(batch)
    return sidecar_entry(path, counts, digest)


def open_runs(path: Path) -> Runs:
    """Map a sidecar into memory."""
    run = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column("run")
    items = None
    if pa.types.is_large_list(run.values.type):
        items, run = run.offsets.to_numpy(zero_copy_only=True), run.values
    return Runs(run.values.to_numpy(zero_copy_only=True), run.offsets.to_numpy(zero_copy_only=True), items)
