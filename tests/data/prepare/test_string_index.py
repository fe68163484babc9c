"""Look-ups by mapped hashes against Arrow's own, also where all hashes collide."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mmgnn_dist.data.prepare.text import string_index as stringindex
from mmgnn_dist.data.prepare.text.string_index import find_strings, index_strings


@pytest.mark.parametrize("collide", [False, True])
def test_it_finds_what_arrow_finds(monkeypatch, collide):
    if collide:
        honest = stringindex.hash_strings
        monkeypatch.setattr(stringindex, "hash_strings", lambda column: honest(column) & np.uint64(3))
    rng = np.random.default_rng(0)
    column = pa.array([f"k{k}" if k % 7 else None for k in rng.integers(0, 400, 600)], pa.large_string())
    asked = [f"k{k}" for k in rng.integers(0, 800, 300)] + [None, "", "k"]
    wanted = pa.array(asked, pa.large_string())
    found = find_strings(wanted, *index_strings(column), column.take)
    expected = pc.index_in(wanted, value_set=column, skip_nulls=True)
    assert 0 < found.null_count < len(found) and found.cast(pa.int32()).equals(expected)
    first = rng.random(600) < 0.5
    found = find_strings(wanted, *index_strings(column, first), column.take).to_pylist()
    for name, row in zip(asked, found, strict=True):
        rows = [k for k, value in enumerate(column.to_pylist()) if value == name and name]
        assert row == min(rows, key=lambda k: (not first[k], k), default=None)


def test_an_empty_column_holds_nothing():
    column = pa.array([], pa.large_string())
    assert (
        find_strings(pa.array(["a"], pa.large_string()), *index_strings(column), column.take).null_count == 1
    )
