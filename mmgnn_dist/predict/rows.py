"""One row of output for each row of input, in its order, with a reason where there is no prediction.

The molecules of a shard set stand in the order of the sources. Those set aside have their row in a source;
what is left between these rows are the molecules that were kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mmgnn_dist.data.shardset.shards import ShardSet


@dataclass(frozen=True)
class InputRows:
    """What became of each row of the sources, n rows.

    Attributes:
        ids: id of each row.
        kept: row in the shard set, int64 [n]; -1 for a molecule that was set aside.
        reasons: why it was set aside, "" for one that was kept.
    """

    ids: list[str]
    kept: np.ndarray
    reasons: list[str]


def input_rows(shards: ShardSet) -> InputRows:
    """Put the molecules of a shard set, and those set aside when it was made, into the order of the sources.

    Where that order cannot be told, because several conformers were made of a row or files have one name, the
    molecules set aside stand behind the others.
    """
    aside = _set_aside(shards.path)
    sources = shards.manifest["sources"]
    counts = np.array([source["rows"] for source in sources])
    starts = _starts([source["name"] for source in sources], (np.cumsum(counts) - counts).tolist())
    total = shards.rows + len(aside)
    known = all(Path(source).name in starts for _, source, _, _ in aside)
    if counts.sum() == total and known:
        places = [starts[Path(source).name] + row for _, source, row, _ in aside]
    else:
        places = list(range(shards.rows, total))
    kept = np.full(total, -1)
    kept[np.setdiff1d(np.arange(total), places)] = np.arange(shards.rows)
    ids, reasons = [""] * total, [""] * total
    for place, (name, _, _, reason) in zip(places, aside, strict=True):
        ids[place], reasons[place] = name, reason
    for place, name in zip(np.flatnonzero(kept >= 0).tolist(), shards.ids().tolist(), strict=True):
        ids[place] = name
    return InputRows(ids, kept, reasons)


def _starts(names: list[str], first_rows: list[int]) -> dict[str, int]:
    """Map each name of a source, with its suffix and without, to its first row, unless several have it."""
    pairs = zip(names, first_rows, strict=True)
    both = [(key, row) for name, row in pairs for key in {name, Path(name).stem}]
    often = Counter(key for key, _ in both)
    return {key: row for key, row in both if often[key] == 1}


def _set_aside(folder: Path) -> list[tuple[str, str, int, str]]:
    """Return id, source, row and reason of each molecule set aside."""
    return [
        (row["id"] or "", row["source"], row["row"], ": ".join(filter(None, (row["reason"], row["detail"]))))
        for row in pq.read_table(folder / "quarantine.parquet").to_pylist()
    ]
