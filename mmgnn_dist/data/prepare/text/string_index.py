"""An index of a column of strings that is memory-mapped: 64-bit hashes in ascending order, and their rows.

A look-up takes logarithmic time in the column's length for each string, and opening the index costs nothing,
so many small chunks can search a large table. Where hashes are equal, the strings are compared.
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
        first: rows that precede others with the same string, bool [n]; None: the order of the rows.

    Returns:
        Hashes in ascending order, uint64 [n], and the row of each, int64 [n].
    """
    hashes = hash_strings(column)
    is_later = np.zeros(len(hashes), bool) if first is None else ~first
    rows = np.lexsort((is_later, hashes))  # stable
    return hashes[rows], rows


def find_strings(
    asked: pa.Array, hashes: np.ndarray, rows: np.ndarray, strings: Callable[[pa.Array], pa.Array]
) -> pa.Array:
    """Find the first row of a column that holds each of some strings.

    Args:
        asked: strings to find, large_string [m].
        hashes: hashes of the column's strings, ascending, as returned by `index_strings`.
        rows: the row of each hash.
        strings: returns the column's strings in given rows.

    Returns:
        int64 [m]; null where the column has no such string, and for null and "".
    """
    asked_hashes = hash_strings(asked)
    first_rows = np.full(len(asked), -1, np.int64)
    position = np.searchsorted(hashes, asked_hashes)
    pending = np.flatnonzero(np.asarray(pc.not_equal(asked, "").fill_null(False), dtype=bool))
    while len(pending):
        pending = pending[position[pending] < len(hashes)]
        pending = pending[hashes[position[pending]] == asked_hashes[pending]]
        row = rows[position[pending]]
        same = pc.equal(strings(pa.array(row)), asked.take(pa.array(pending))).fill_null(False)
        hit = np.asarray(same, dtype=bool)
        first_rows[pending[hit]] = row[hit]
        pending = pending[~hit]
        position[pending] += 1
    return pa.array(first_rows, mask=first_rows < 0)
