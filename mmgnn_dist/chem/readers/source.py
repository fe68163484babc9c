"""What every reader has in common: a source of molecules, its targets and its QM9 conventions.

A source knows how many rows it has before anything is prepared. `stream` reads them on from any row as
Arrow tables, in the form of the source; `convert` makes molecules of such a table. Sources that cannot be
entered in the middle at no cost (`sequential`: compressed streams, text) are streamed once by one task,
the others by every task that needs a part of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.targets import TARGETS, Target, accepted_units, target_for
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import sha256

GEOMETRY = ("atomic_numbers", "positions")
TEXT_COLUMNS = (*TEXT_FIELDS, "cid", "field_sources")
IDENTIFIERS = ("id", "smiles", "inchikey")
QM9_UNITS = {
    "mu": "D",
    "alpha": "a0^3",
    "homo": "Hartree",
    "lumo": "Hartree",
    "gap": "Hartree",
    "r2": "a0^2",
    "zpve": "Hartree",
    "u0": "Hartree",
    "u298": "Hartree",
    "h298": "Hartree",
    "g298": "Hartree",
    "cv": "cal/mol/K",
}
QM9_EXTRA = frozenset(
    {"gdb_idx", "mol_id", "A", "B", "C", "u0_atom", "u298_atom", "h298_atom", "g298_atom"}
)  # of the files of QM9, neither targets nor worth a word
QM9_ID = re.compile(r"(?:gdb_|dsgdb9nsd_)0*(\d{1,6})")
QM9_LISTS = ("uncharacterized.txt", "qm9_uncharacterized_idx.txt", "3195404")  # the last is figshare's name
WHOLE = 1 << 26  # files up to this size are told apart by their whole content
END = 1 << 20  # larger ones by size, time and this much of their end, where Parquet keeps its index

Spread = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]  # like `map`, perhaps in parallel
Row = TypeVar("Row")
Found = tuple[tuple[str, Target, float], ...]  # (column, canonical target, factor to its unit)


class Stream(Protocol):
    """Consecutive rows of a source; `position` is the next one."""

    position: int

    def read(self, rows: int) -> pa.Table:
        """The next `rows` rows, in the form of the source."""
        ...


class SequentialStream(Generic[Row]):
    """A stream over an iterator that cannot be entered in the middle: what comes before is passed over."""

    def __init__(self, path: Path, rows: Iterator[Row], start: int):
        self.path, self.position = path, start
        self._rows = rows
        for _ in range(start):
            next(rows, None)

    def read(self, rows: int) -> pa.Table:
        """The next `rows` rows, in the form of the source.

        Raises:
            UserError: the file has become shorter since it was counted.
        """
        taken = [row for _, row in zip(range(rows), self._rows, strict=False)]
        if len(taken) < rows:
            raise UserError(f"{self.path} has changed since it was counted: start again")
        self.position += rows
        return self.table(taken)

    def table(self, rows: list[Row]) -> pa.Table:
        """Rows as a table."""
        raise NotImplementedError


@dataclass(frozen=True)
class Source:
    """One readable file, archive or folder.

    Attributes:
        path: the file.
        name: what it is called in messages, quarantine and made ids.
        rows: molecules in it.
        columns: names of its columns.
        qm9: whether it is QM9 in its original form.
        targets: (column, canonical target, factor to the canonical unit).
        ignored: numeric columns that are neither known nor declared.
        excluded: 1-based QM9 indices that a list beside the file advises against.
        notes: what the user should know of it.
        formats: names of the formats of its raw records, none where it has no records (see `formats`).
    """

    path: Path
    name: str
    rows: int
    columns: tuple[str, ...]
    qm9: bool
    targets: Found
    ignored: tuple[str, ...]
    excluded: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()

    sequential = False  # whether reading from the middle costs as much as reading from the start

    @property
    def makes_ids(self) -> bool:
        """Whether ids are made of the file's name and the row."""
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.path.stat().st_size

    def content(self) -> list[Any]:
        """What tells one content from another."""
        return [*file_content(self.path), sorted(self.excluded)]

    def stream(self, start: int) -> Stream:
        """Read on from row `start`."""
        raise NotImplementedError

    def convert(self, table: pa.Table, start: int, order: list[str], spread: Spread = map) -> Molecules:
        """Rows from `start` on as molecules, their targets in `order` (canonical names).

        `spread` may do the costly part of the work in parallel; the result does not depend on it.
        """
        raise NotImplementedError

    def is_excluded(self, ids: pa.Array) -> np.ndarray:
        """Which of the QM9 ids the list beside the file advises against, bool [n]."""
        if not self.excluded:
            return np.zeros(len(ids), bool)
        names = pa.array([f"dsgdb9nsd_{number:06d}" for number in self.excluded], ids.type)
        return np.asarray(pc.is_in(ids, value_set=names), dtype=bool)


def resolve_targets(
    path: Path, columns: Iterable[tuple[str, str]], given: dict[str, str], known: set[str]
) -> tuple[Found, tuple[str, ...]]:
    """Which columns are targets, in which unit, and which numbers are left unread.

    Args:
        path: for messages.
        columns: (name, what it holds), the latter "" for numbers.
        given: unit of each target column.
        known: columns that are no targets.

    Raises:
        UserError: a target without a unit, with a wrong one, or that is no number.
    """
    targets, ignored = [], []
    for name, other in columns:
        if name in given:
            if other:
                raise UserError(f"{path}: target column '{name}' is {other}, not a number")
            target, factor = target_for(name, given[name])
            targets.append((name, target, factor))
        elif name in TARGETS:
            raise UserError(
                f"{path}: the unit of column '{name}' is not given: add data.units.{name}=UNIT, "
                f"UNIT one of {', '.join(accepted_units(name))}"
            )
        elif not other and name not in known:
            ignored.append(name)
    return tuple(targets), tuple(ignored)


def is_qm9_table(columns: Iterable[str]) -> bool:
    """Whether a table is QM9: its index, rotational constants and all of its targets, by name."""
    have = set(columns)
    return have >= {"A", "B", "C", *QM9_UNITS} and bool(have & {"gdb_idx", "mol_id"})


def qm9_list(folder: Path) -> frozenset[int]:
    """Indices of the list of uncharacterised molecules in `folder`, empty where there is none.

    The figshare file has the index at the start of each line of its table; a plain list is read alike.

    Raises:
        UserError: a list without any index.
    """
    for name in QM9_LISTS:
        path = folder / name
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found = frozenset(int(word) for word in re.findall(r"^\s*(\d{1,6})(?=\s|$)", text, re.MULTILINE))
            if not found:
                raise UserError(f"{path} lists no molecule: get it anew or move it away")
            return found
    return frozenset()


def file_content(path: Path) -> list[Any]:
    """What tells one content of a file from another."""
    state = path.stat()
    if state.st_size <= WHOLE:
        return [sha256(path)]
    with open(path, "rb") as content:
        content.seek(-END, 2)
        return [state.st_size, state.st_mtime_ns, hashlib.sha256(content.read()).hexdigest()]


def qm9_notes(path: Path, excluded: frozenset[int]) -> tuple[str, ...]:
    """What the user should know where there is no list of the molecules that QM9 advises against."""
    if excluded:
        return ()
    return (
        f"no {QM9_LISTS[0]} beside {path.name}: of the 3,054 molecules that QM9's authors advise against, "
        "those in it are kept; 'mmgnn data fetch qm9' gets the list",
    )


def printable(text: str) -> str:
    """A text without letters that steer a terminal."""
    return "".join(letter for letter in text if letter.isprintable())


def one_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
