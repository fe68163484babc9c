"""The common part of all readers: a source of molecules, its targets and its QM9 conventions.

A source knows its number of rows before anything is prepared. `stream` reads the rows from any row on as
Arrow tables, in the form of the source; `convert` turns such a table into molecules. If reading from the
middle is expensive (`sequential`: compressed streams, text), one task streams the source once. Otherwise
every task that needs a part of the source streams that part.
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
from mmgnn_dist.chem.states.electronic_state import is_state_column
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
)  # columns of QM9 files that are neither targets nor reported as ignored
QM9_ID = re.compile(r"(?:gdb_|dsgdb9nsd_)0*(\d{1,6})")
QM9_LISTS = ("uncharacterized.txt", "qm9_uncharacterized_idx.txt", "3195404")  # the last is figshare's name
WHOLE = 1 << 26  # bytes; files up to this size are identified by their whole content
END = 1 << 20  # bytes; larger files by size, time and this much of their end, where Parquet keeps its index

Spread = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]  # like `map`, perhaps in parallel
Row = TypeVar("Row")
Found = tuple[tuple[str, Target, float], ...]  # (column, canonical target, factor to its unit)


class Stream(Protocol):
    """Consecutive rows of a source; `position` is the next row."""

    position: int

    def read(self, rows: int) -> pa.Table:
        """Read the next `rows` rows, in the form of the source."""
        ...


class SequentialStream(Generic[Row]):
    """A stream over an iterator without random access: the rows before `start` are skipped."""

    def __init__(self, path: Path, rows: Iterator[Row], start: int):
        self.path, self.position = path, start
        self._rows = rows
        for _ in range(start):
            next(rows, None)

    def read(self, rows: int) -> pa.Table:
        """Read the next `rows` rows, in the form of the source.

        Raises:
            UserError: the file has become shorter since it was counted.
        """
        taken = [row for _, row in zip(range(rows), self._rows, strict=False)]
        if len(taken) < rows:
            raise UserError(f"{self.path} has changed since it was counted: start again")
        self.position += rows
        return self.table(taken)

    def table(self, rows: list[Row]) -> pa.Table:
        """Return rows as a table."""
        raise NotImplementedError


@dataclass(frozen=True)
class Source:
    """One readable file, archive or folder.

    Attributes:
        path: the file.
        name: its name in messages, quarantine and made ids.
        rows: number of molecules in it.
        columns: names of its columns.
        qm9: whether it is QM9 in its original form.
        targets: (column, canonical target, factor to the canonical unit).
        ignored: numeric columns that are neither known nor declared.
        excluded: 1-based QM9 indices that a list next to the file advises against.
        notes: lines that tell the user about it.
        formats: names of the formats of its raw records, empty if it has none (see `formats`).
        spin_is_2s: its column `spin` is the number of unpaired electrons, not the multiplicity.
        part: part of a published split that it is: `train` or `val`, "" for none.
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
    spin_is_2s: bool = False
    part: str = ""

    sequential = False  # whether reading from the middle costs as much as reading from the start

    @property
    def embeds(self) -> bool:
        """Whether its geometries are made from SMILES."""
        return False

    @property
    def makes_ids(self) -> bool:
        """Whether ids are made from the file's name and the row."""
        raise NotImplementedError

    @property
    def numbers_conformers(self) -> bool:
        """Whether ids name the conformers of one molecule or formula, `GROUP#NUMBER`."""
        return False

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.path.stat().st_size

    def content(self) -> list[Any]:
        """Return the values that identify the content."""
        return [*file_content(self.path), sorted(self.excluded)]

    def stream(self, start: int) -> Stream:
        """Open a stream at row `start`."""
        raise NotImplementedError

    def convert(self, table: pa.Table, start: int, order: list[str], spread: Spread = map) -> Molecules:
        """Convert rows from `start` on to molecules, with targets in `order` (canonical names).

        `spread` may do the costly part of the work in parallel; the result does not depend on it.
        """
        raise NotImplementedError

    def is_excluded(self, ids: pa.Array) -> np.ndarray:
        """Return which of the QM9 ids the list next to the file advises against, bool [n]."""
        if not self.excluded:
            return np.zeros(len(ids), bool)
        names = pa.array([f"dsgdb9nsd_{number:06d}" for number in self.excluded], ids.type)
        return np.asarray(pc.is_in(ids, value_set=names), dtype=bool)


def resolve_targets(
    path: Path, columns: Iterable[tuple[str, str]], given: dict[str, str], known: set[str]
) -> tuple[Found, tuple[str, ...]]:
    """Decide which columns are targets, in which unit, and which columns of numbers are not read.

    Args:
        path: for messages.
        columns: (name, kind of its values) of each column; the kind is "" for numbers.
        given: unit of each target column.
        known: columns that are not targets.

    Raises:
        UserError: a target has no unit, has a wrong unit, or is not a number.
    """
    targets, ignored = [], []
    for name, kind in columns:
        if name in given:
            if kind:
                raise UserError(f"{path}: target column '{name}' is {kind}, not a number")
            target, factor = target_for(name, given[name])
            targets.append((name, target, factor))
        elif name in TARGETS:
            raise UserError(
                f"{path}: the unit of column '{name}' is not given: add data.units.{name}=UNIT, "
                f"UNIT one of {', '.join(accepted_units(name))}"
            )
        elif not kind and name not in known and not is_state_column(name):
            ignored.append(name)
    return tuple(targets), tuple(ignored)


def is_qm9_table(columns: Iterable[str]) -> bool:
    """Whether a table is QM9: it has the names of QM9's index, rotational constants and all targets."""
    have = set(columns)
    return have >= {"A", "B", "C", *QM9_UNITS} and bool(have & {"gdb_idx", "mol_id"})


def qm9_list(folder: Path) -> frozenset[int]:
    """Return the indices in the list of uncharacterised molecules in `folder`; empty without such a list.

    The figshare file has the index at the start of each line of its table; a plain list is read the same way.

    Raises:
        UserError: the list has no index.
    """
    for name in QM9_LISTS:
        path = folder / name
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            indices = frozenset(
                int(word) for word in re.findall(r"^\s*(\d{1,6})(?=\s|$)", text, re.MULTILINE)
            )
            if not indices:
                raise UserError(f"{path} lists no molecule: get it anew or move it away")
            return indices
    return frozenset()


def file_content(path: Path) -> list[Any]:
    """Return the values that identify the content of a file."""
    state = path.stat()
    if state.st_size <= WHOLE:
        return [sha256(path)]
    with open(path, "rb") as content:
        content.seek(-END, 2)
        return [state.st_size, state.st_mtime_ns, hashlib.sha256(content.read()).hexdigest()]


def qm9_notes(path: Path, excluded: frozenset[int]) -> tuple[str, ...]:
    """Return a note for the user if there is no list of the molecules that QM9 advises against."""
    if excluded:
        return ()
    return (
        f"no {QM9_LISTS[0]} beside {path.name}: of the 3,054 molecules that QM9's authors advise against, "
        "those in it are kept; 'mmgnn data fetch qm9' gets the list",
    )


def printable(text: str) -> str:
    """Return a text without characters that control a terminal."""
    return "".join(letter for letter in text if letter.isprintable())


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
