"""Rows of an ASE database in SQLite, opened so that nothing is written to it or beside it.

SQLite merges the journal of an interrupted or unfinished writer (`-wal`, `-journal`) into the file as soon
as it opens it, also for reading. A database with such a journal is therefore copied, and the copy is read.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mmgnn_dist.errors import need

JOURNALS = ("-wal", "-journal")


class SqliteRows:
    """An open ASE database.

    Attributes:
        keys: ids of its rows in order, int64 [rows].
        metadata: its metadata.
        numbers: names of the numeric key-value pairs.
        texts: names of the other key-value pairs.
    """

    def __init__(self, path: Path):
        try:
            from ase.db import connect
        except ImportError:
            raise need("ase", "data") from None
        self._copy, connection = _open(path)
        self.keys = np.array(
            [row[0] for row in connection.execute("SELECT id FROM systems ORDER BY id")], np.int64
        )
        self.numbers = _names(connection, "number_key_values")
        self.texts = _names(connection, "text_key_values")
        self._database = connect(str(path), type="db", use_lock_file=False)
        self._database.connection, self._database.change_count = connection, 0  # as in its own `with` block
        self.metadata = dict(self._database.metadata)

    def row(self, key: int) -> Any:
        """Return the row with an id, an `ase.db.row.AtomsRow`."""
        return self._database.get(id=key)


def _open(path: Path) -> tuple[Any, sqlite3.Connection]:
    """Return (the folder of the copy, None without one; a connection that cannot write to the file)."""
    journals = [Path(f"{path}{suffix}") for suffix in JOURNALS]
    pending = [journal for journal in journals if journal.is_file() and journal.stat().st_size]
    if not pending:
        address = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro&immutable=1"
        return None, sqlite3.connect(address, uri=True, check_same_thread=False)
    folder = tempfile.TemporaryDirectory(prefix="mmgnn-db-")
    copy = Path(folder.name) / "copy.db"
    shutil.copyfile(path, copy)
    for journal in pending:
        shutil.copyfile(journal, f"{copy}{journal.name.removeprefix(path.name)}")
    return folder, sqlite3.connect(copy, check_same_thread=False)


def _names(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[0] for row in connection.execute(f"SELECT DISTINCT key FROM {table}")}
