"""Rows of fairchem's ASE-LMDB (`.aselmdb`): zlib-compressed JSON of ASE's rows under their ids.

The keys `nextid`, `metadata` and `deleted_ids` hold no rows. Nothing is unpickled, no lock file is made.
Source: fairchem's `LMDBDatabase`, which writes rows by orjson, arrays as nested lists; ASE's own form of
arrays (`__ndarray__`) is read too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mmgnn_dist.chem.checks import OVERSIZED, BadRecord
from mmgnn_dist.errors import need

RESERVED = (b"nextid", b"metadata", b"deleted_ids")
MOST = 64 << 20  # bytes of one row as JSON
ARRAYS = ("numbers", "positions", "cell", "pbc")


class LmdbRows:
    """An open ASE-LMDB.

    Attributes:
        keys: ids of its rows in order, int64 [rows].
        metadata: its metadata.
        numbers: names of the numeric key-value pairs, which only the rows tell: empty.
        texts: names of the other key-value pairs, which only the rows tell: empty.
    """

    def __init__(self, path: Path):
        state = path.stat()
        self._environment = _environment(path.absolute(), state.st_ino, state.st_mtime_ns)
        self.numbers: set[str] = set()
        self.texts: set[str] = set()
        with _reading(self._environment) as transaction:
            found = [
                int(key)
                for key in transaction.cursor().iternext(keys=True, values=False)
                if bytes(key) not in RESERVED
            ]
            reserved = {key: transaction.get(key) for key in RESERVED}
        deleted = _decoded(reserved[b"deleted_ids"]) if reserved[b"deleted_ids"] else []
        self.keys = np.setdiff1d(np.array(found, np.int64), np.array(deleted, np.int64))
        metadata = _decoded(reserved[b"metadata"]) if reserved[b"metadata"] else {}
        self.metadata: dict[str, Any] = metadata if isinstance(metadata, dict) else {}

    def row(self, key: int) -> Any:
        """Return the row with an id, an `ase.db.row.AtomsRow`."""
        from ase.db.row import AtomsRow

        with _reading(self._environment) as transaction:
            values = _decoded(transaction.get(str(key).encode("ascii")))
        values |= {name: np.asarray(values[name]) for name in ARRAYS if name in values}
        return AtomsRow(values | {"id": key})


@lru_cache(maxsize=8)
def _environment(path: Path, inode: int, changed: int) -> Any:
    """Return an open environment; LMDB allows one for each file and process."""
    try:
        import lmdb
    except ImportError:
        raise need("lmdb", "arrays") from None
    try:
        environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, create=False, readahead=False
        )
    except lmdb.Error as error:
        raise ValueError(str(error)) from None
    pages = environment.info()["last_pgno"] + 1
    if pages * environment.stat()["psize"] > path.stat().st_size:  # reading beyond the end kills the process
        environment.close()
        raise ValueError("it is cut off")
    return environment


@contextmanager
def _reading(environment: Any) -> Iterator[Any]:
    """Yield a transaction that reads; LMDB's errors become `ValueError`."""
    import lmdb

    try:
        with environment.begin() as transaction:
            yield transaction
    except lmdb.Error as error:
        raise ValueError(str(error)) from None


def _decoded(value: bytes) -> Any:
    """Return a value from its compressed JSON.

    Raises:
        ValueError: it is no such thing.
        BadRecord: it is larger than any molecule.
    """
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(value, MOST)
    except zlib.error as error:
        raise ValueError(f"no zlib-compressed JSON ({error}); pickled rows are not read") from None
    if unpacker.unconsumed_tail:
        raise BadRecord(OVERSIZED, f"more than {MOST >> 20} MiB of JSON")
    return json.loads(text, object_hook=_array)


def _array(values: dict[str, Any]) -> Any:
    """Return an array of ASE's JSON, `{"__ndarray__": [shape, dtype, values]}`; other objects as they are."""
    if set(values) != {"__ndarray__"}:
        return values
    shape, kind, items = values["__ndarray__"]
    return np.array(items, dtype=kind).reshape(shape)
