"""The merge of the rows kept from PubChem's bulk files into the table of text, in windows of CIDs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.shardset.hashing import hash_strings
from mmgnn_dist.pubchem.extras import FIELD_FILES, KEY_FILE, ExtrasAbout
from mmgnn_dist.pubchem.lookup import FIELD_NAMES
from mmgnn_dist.pubchem.text_table import ROWS, TEXT_SCHEMA

PART = pa.schema([("cid", pa.int64()), ("text", pa.large_string())])


def member(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return whether each value is in a sorted array, bool [n]."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    index = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[index] == values)


class Part:
    """The rows kept from one file: ascending CIDs and their texts, in batches of a memory-mapped file."""

    def __init__(self, path: Path):
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self.first = np.array([batch["cid"][0].as_py() for batch in self.batches], np.int64)
        self.last = np.array([batch["cid"][-1].as_py() for batch in self.batches], np.int64)

    def cids(self) -> Iterator[np.ndarray]:
        """Yield the CIDs of each batch."""
        for batch in self.batches:
            yield batch["cid"].to_numpy()

    def between(self, first: int, last: int) -> tuple[np.ndarray, pa.Array]:
        """Return (CIDs, texts) of the rows whose CID is in [first, last]."""
        batches = self.batches[
            np.searchsorted(self.last, first) : np.searchsorted(self.first, last, side="right")
        ]
        table = pa.Table.from_batches(batches, PART)
        cid = table["cid"].to_numpy()
        start, end = np.searchsorted(cid, [first, last + 1])
        return cid[start:end], table["text"].slice(start, end - start).combine_chunks()


def choose_cids(parts: dict[str, Part]) -> tuple[np.ndarray, int]:
    """Return (the CID chosen for each key, ascending; the number of keys with several CIDs).

    For a key with several CIDs it is the lowest one with a name, or the lowest if none has a name.
    """
    batches = parts[KEY_FILE].batches
    if not batches:
        return np.zeros(0, np.int64), 0
    cid = np.concatenate(list(parts[KEY_FILE].cids()))
    identity = np.concatenate([hash_strings(batch["text"]) for batch in batches])
    named = np.zeros(len(cid), bool)
    for field in FIELD_NAMES:
        if FIELD_FILES[field] in parts:
            for cids in parts[FIELD_FILES[field]].cids():
                named[np.searchsorted(cid, cids[member(cids, cid)])] = True
    order = np.lexsort((cid, ~named, identity))
    first = np.flatnonzero(np.append(True, np.diff(identity[order]) != 0))
    sizes = np.diff(np.append(first, len(order)))
    return np.sort(cid[order[first]]), int(np.sum(sizes > 1))


def merged(
    parts: dict[str, Part], cids: np.ndarray, records: Mapping[str, ExtrasAbout]
) -> Iterator[pa.Table]:
    """Yield the output table, one window of CIDs at a time.

    Args:
        parts: the rows kept from each file, by file name.
        cids: CIDs of the rows to make, int64 [n], ascending.
        records: `ExtrasFile.about` of each file.
    """
    names = {field: name for field, name in FIELD_FILES.items() if name in parts}
    origins = {field: f"{name} of {records[name]['date']}" for field, name in names.items()}
    for first in range(0, len(cids), ROWS):
        cid = cids[first : first + ROWS]
        columns: dict[str, pa.Array] = {field.name: pa.nulls(len(cid), field.type) for field in TEXT_SCHEMA}
        columns["cid"] = pa.array(cid)
        for field, name in {"inchikey": KEY_FILE, **names}.items():
            part_cids, text = parts[name].between(int(cid[0]), int(cid[-1]))
            if field == "molecular_formula":  # the masses follow the formula
                text = pc.list_element(pc.split_pattern(text, "\t", max_splits=1), 0)
            columns[field] = (_lists if field == "synonyms" else _singles)(
                cid, part_cids, text.cast(pa.string())
            )
        columns["field_sources"] = _sources(columns, origins)
        yield pa.table([columns[name] for name in TEXT_SCHEMA.names], schema=TEXT_SCHEMA)


def _singles(cid: np.ndarray, part_cids: np.ndarray, text: pa.Array) -> pa.Array:
    """Return the text of each CID, null where there is none."""
    present = member(cid, part_cids)
    return text.take(pa.array(np.searchsorted(part_cids, cid), mask=~present))


def _lists(cid: np.ndarray, part_cids: np.ndarray, text: pa.Array) -> pa.Array:
    """Return the texts of each CID as a list, null where there are none."""
    start, end = np.searchsorted(part_cids, cid), np.searchsorted(part_cids, cid, side="right")
    size = end - start
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
    indices = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], size)
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), text.take(pa.array(indices)), mask=pa.array(size == 0)
    )


def _sources(columns: dict[str, pa.Array], origins: dict[str, str]) -> pa.Array:
    """Return a JSON object, field -> origin, for each row; it is made once for each set of present fields."""
    fields = [field for field in TEXT_FIELDS if field in origins]
    bits = np.zeros(len(columns["cid"]), np.int64)
    for bit, field in enumerate(fields):
        bits |= np.asarray(columns[field].is_valid(), dtype=np.int64) << bit
    patterns, pattern_of_row = np.unique(bits, return_inverse=True)
    entries = [
        {field: origins[field] for bit, field in enumerate(fields) if pattern >> bit & 1}
        for pattern in patterns.tolist()
    ]
    return pa.array([json.dumps(entry) if entry else None for entry in entries], pa.string()).take(
        pa.array(pattern_of_row)
    )
