"""The cache of a service's answers: raw answers with their date, in one SQLite file.

An answer and the identifiers that it settles are stored in one transaction, so that a killed run loses at
most the current request. Identifiers that the service does not have are stored too, and can be asked again
when they are old. One process at a time locks the file; this also lets its write-ahead log work on network
file systems.
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
FORMAT = 0x6D6D7063  # "mmpc": application_id of these files
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
    """The cached answers of one service; a context manager.

    Args:
        path: SQLite file, made if it does not exist.
        service: address of the service; answers of other addresses are kept apart.

    Raises:
        UserError: the file is not such a cache, is in use by another process, or is not writable.
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
        # before the first read, so that the log needs no shared memory
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
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
        """Return the identifiers that still have to be asked, sorted.

        Args:
            kind: name of the question.
            identifiers: any number of identifiers.
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
        """Store an answer and the identifiers that it settles: those in `found`, the others as not found.

        Raises:
            UserError: the disk is full or not writable.
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
        """Yield (date, raw answer, identifiers found in it) for each answer with some of the identifiers."""
        self._want(identifiers)
        query = """
            SELECT answer, identifier FROM wanted JOIN asked USING (identifier)
            WHERE service = ? AND kind = ? AND found ORDER BY answer"""
        names_by_answer: dict[int, set[str]] = {}
        for answer, name in self._db.execute(query, (self.service, kind)):
            names_by_answer.setdefault(answer, set()).add(name)
        for answer, names in names_by_answer.items():
            row = self._db.execute("SELECT date, body FROM answers WHERE id = ?", (answer,)).fetchone()
            yield row[0], zlib.decompress(row[1]), names

    def _want(self, identifiers: Iterable[str]) -> None:
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM wanted")
        self._db.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", ((name,) for name in identifiers))
        self._db.execute("COMMIT")
