"""An index of a column of strings, to be mapped from disk: 64-bit hashes in ascending order, and their rows.

A look-up costs the logarithm of the column's length for every string asked, and nothing for opening it, so a
large table may be looked into by many small chunks. Equal hashes are told apart by the strings themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.data.shardset.hashing import hash_strings


def index_strings(column: pa.Array, first: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Make the index of a column.

    Args:
        column: large_string [n].
        first: rows that come before others with the same string, bool [n]; else the order is that of rows.

    Returns:
        Hashes in ascending order, uint64 [n], and the row of each, int64 [n].
    """
    hashes = hash_strings(column)
    last = np.zeros(len(hashes), bool) if first is None else ~first
    rows = np.lexsort((last, hashes))  # stable
    return hashes[rows], rows


def find_strings(
    asked: pa.Array, hashes: np.ndarray, rows: np.ndarray, strings: Callable[[pa.Array], pa.Array]
) -> pa.Array:
    """The first row of a column that holds each of some strings.

    Args:
        asked: large_string [m].
        hashes: of the column's strings, ascending, as `index_strings` gives them.
        rows: the row of each hash.
        strings: gives the column's strings in some rows.

    Returns:
        int64 [m]; null where the column has no such string, and for null and "".
    """
    wanted = hash_strings(asked)
    found = np.full(len(asked), -1, np.int64)
    place = np.searchsorted(hashes, wanted)
    open_ = np.flatnonzero(np.asarray(pc.not_equal(asked, "").fill_null(False), dtype=bool))
    while len(open_):
        open_ = open_[place[open_] < len(hashes)]
        open_ = open_[hashes[place[open_]] == wanted[open_]]
        row = rows[place[open_]]
        same = pc.equal(strings(pa.array(row)), asked.take(pa.array(open_))).fill_null(False)
        hit = np.asarray(same, dtype=bool)
        found[open_[hit]] = row[hit]
        open_ = open_[~hit]
        place[open_] += 1
    return pa.array(found, mask=found < 0)
