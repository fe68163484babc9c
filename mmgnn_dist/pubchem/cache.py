"""What a service has answered: raw answers with their date, in one SQLite file.

An answer and the identifiers that it settles are stored in one transaction, so that a killed run loses at
most the request under way. Identifiers of which the service had nothing are kept too, and can be asked again
when they are old. The file is locked by one process at a time, which also lets its write-ahead log work on
network file systems.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from mmgnn_dist.errors import UserError

DAY = 86400.0
FORMAT = 0x6D6D7063  # "mmpc": application_id of our files
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY, service TEXT NOT NULL, kind TEXT NOT NULL, date REAL NOT NULL, body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS asked (
    service TEXT NOT NULL, kind TEXT NOT NULL, identifier TEXT NOT NULL, answer INTEGER NOT NULL,
    found INTEGER NOT NULL, PRIMARY KEY (service, kind, identifier)
) WITHOUT ROWID;
CREATE TEMP TABLE wanted (identifier TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Cache:
    """The answers of one service; a context manager.

    Args:
        path: SQLite file, made where there is none.
        service: address of the service: what another one says is another matter.

    Raises:
        UserError: not a cache of ours, in use by another process, or not writable.
    """

    def __init__(self, path: Path, service: str):
        self.path, self.service = path, service
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
            self._open()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise UserError(f"{path} is in use by another command: wait for it") from None
            raise UserError(f"cannot open the cache {path}: {error}") from None
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError(
                f"{path} is not a cache of answers ({error}): remove it or set data.pubchem.cache"
            ) from None

    def _open(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode=EXCLUSIVE")  # before the first read: no shared memory beside the log
        (format_id,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and format_id != FORMAT:
            raise sqlite3.DatabaseError("it holds another program's tables")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(f"PRAGMA application_id={FORMAT}")
        db.executescript(_TABLES)

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._db.close()

    def open_questions(self, kind: str, identifiers: Iterable[str], max_age: float) -> list[str]:
        """Those of the identifiers that are still to be asked, sorted.

        Args:
            kind: which question.
            identifiers: any number of them.
            max_age: days after which an identifier that the service did not have is asked again.
        """
        self._want(identifiers)
        query = """
            SELECT identifier FROM wanted WHERE identifier NOT IN (
                SELECT asked.identifier FROM asked JOIN answers ON answers.id = asked.answer
                WHERE asked.service = ? AND asked.kind = ? AND (found OR date > ?)
            ) ORDER BY identifier"""
        oldest = time.time() - max_age * DAY
        return [name for (name,) in self._db.execute(query, (self.service, kind, oldest))]

    def store(self, kind: str, identifiers: list[str], found: set[str], body: bytes) -> None:
        """Keep an answer, and which identifiers it settles: those in `found`, the others as not found.

        Raises:
            UserError: the disk is full, or may not be written.
        """
        db = self._db
        try:
            db.execute("BEGIN")
            answer = db.execute(
                "INSERT INTO answers (service, kind, date, body) VALUES (?, ?, ?, ?)",
                (self.service, kind, time.time(), zlib.compress(body)),
            ).lastrowid
            db.executemany(
                "INSERT OR REPLACE INTO asked VALUES (?, ?, ?, ?, ?)",
                [(self.service, kind, name, answer, name in found) for name in identifiers],
            )
            db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise UserError(f"cannot write to the cache {self.path}: {error}") from None

    def answers(self, kind: str, identifiers: Iterable[str]) -> Iterator[tuple[float, bytes, set[str]]]:
        """(date, raw answer, identifiers found in it) for each answer that holds some of the identifiers."""
        self._want(identifiers)
        query = """
            SELECT answer, identifier FROM wanted JOIN asked USING (identifier)
            WHERE service = ? AND kind = ? AND found ORDER BY answer"""
        held: dict[int, set[str]] = {}
        for answer, name in self._db.execute(query, (self.service, kind)):
            held.setdefault(answer, set()).add(name)
        for answer, names in held.items():
            row = self._db.execute("SELECT date, body FROM answers WHERE id = ?", (answer,)).fetchone()
            yield row[0], zlib.decompress(row[1]), names

    def _want(self, identifiers: Iterable[str]) -> None:
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM wanted")
        self._db.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", ((name,) for name in identifiers))
        self._db.execute("COMMIT")
