"""Small shard sets: made-up molecules with gaps in every column that may have gaps; a part of a large set."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.data.shardset.shards import SCHEMA_VERSION, ShardSet, shard_schema, write_shard
from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.files import write_json

TARGETS = ["mu", "gap", "energy"]
NAMES = [
    "propan-2-one",
    "bicyclo[1.1.1]pentan-1-ol",
    "2-methyl-1,3-oxazole",
    "azane",
    "N,N-dimethylformamide",
]


def make_set(
    folder: Path,
    sizes: tuple[int, ...] = (40, 1, 33, 29),
    seed: int = 0,
    gaps: float = 0.3,
    labels: Sequence[str] = TARGETS,
    classes: Mapping[str, Sequence[str]] | None = None,
) -> ShardSet:
    """Write shards of `sizes` molecules, a share `gaps` of their `labels` unknown, and open the set.

    `classes` come after the labels; every molecule has one.
    """
    classes = classes or {}
    rng = np.random.default_rng(seed)
    entries = []
    for number, size in enumerate(sizes):
        atoms = rng.integers(1, 12, size)
        ptr = np.concatenate([[0], np.cumsum(atoms)])
        y = rng.normal(-1e4, 10, (size, len(labels)))
        y[rng.random(y.shape) < gaps] = np.nan
        own = np.random.default_rng([seed, number])
        y = np.hstack([y, *(own.integers(0, len(k), (size, 1)).astype(float) for k in classes.values())])
        context = rng.uniform(0, 99, (size, 6)).astype(np.float32)
        context[rng.random(context.shape) < 0.3] = np.nan
        names = [NAMES[i] if i < len(NAMES) else None for i in rng.integers(0, len(NAMES) + 3, size)]
        columns = {
            "id": [f"m{number}_{i}" for i in range(size)],
            "smiles": [None] * size,
            "inchikey": [None] * size,
            "z": pa.LargeListArray.from_arrays(ptr, pa.array(rng.integers(1, 10, ptr[-1]), pa.uint8())),
            "pos": pa.LargeListArray.from_arrays(
                ptr * 3, pa.array(rng.normal(size=ptr[-1] * 3), pa.float32())
            ),
            "y": pa.FixedSizeListArray.from_arrays(y.ravel(), y.shape[1]),
            "context": pa.FixedSizeListArray.from_arrays(context.ravel(), 6),
            "iupac_name": names,
            "title": [None] * size,
            "molecular_formula": ["C3H6O" if i % 3 else None for i in range(size)],
            "synonyms": [["acetone", "67-64-1"] if i % 4 == 0 else None for i in range(size)],
            "field_sources": [None] * size,
        }
        schema = shard_schema(y.shape[1])
        arrays = [c if isinstance(c := columns[f.name], pa.Array) else pa.array(c, f.type) for f in schema]
        batch = pa.record_batch([a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema)
        entries.append(write_shard(folder / f"shard-{number:05d}.arrow", batch))
    targets: list[dict[str, Any]] = [{"name": name, "unit": "eV", "kind": "intensive"} for name in labels]
    for name, names in classes.items():
        targets.append({"name": name, "unit": "", "kind": "class", "classes": list(names)})
    manifest = {
        "kind": "mmgnn-shards",
        "schema": SCHEMA_VERSION,
        "shards": entries,
        "rows": sum(sizes),
        "targets": targets,
        "elements": ["H", "He", "Li", "Be", "B", "C", "N", "O", "F"],
    }
    write_json(folder / "manifest.json", manifest)
    return ShardSet.open(folder)


def part_of(whole: ShardSet, to: Path, count: int) -> ShardSet:
    """The first `count` shards of a set in random order as a set of its own, with a random split."""
    entries = whole.manifest["shards"][:count]
    to.mkdir()
    for entry in entries:
        shutil.copyfile(whole.path / entry["name"], to / entry["name"])
    rows = sum(entry["rows"] for entry in entries)
    manifest = whole.manifest | {"shards": entries, "rows": rows}
    covered = {name: round(number * rows / whole.rows) for name, number in whole.manifest["coverage"].items()}
    write_json(to / "manifest.json", manifest | {"coverage": covered})
    make_split(part := ShardSet.open(to))
    return part
