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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.own_targets.target_columns import Found
from mmgnn_dist.config import TEXT_FIELDS, Declared
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import sha256

GEOMETRY = ("atomic_numbers", "positions")
TEXT_COLUMNS = (*TEXT_FIELDS, "cid", "field_sources", "selected_fields")
IDENTIFIERS = ("id", "smiles", "inchikey")
KNOWN_COLUMNS = frozenset({*IDENTIFIERS, *TEXT_COLUMNS, "inchi"})
QM9_UNITS: Declared = {
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
QM9_EXTRA = frozenset({"gdb_idx", "mol_id"})  # columns of QM9 files that give the ids
QM9_ID = re.compile(r"(?:gdb_|dsgdb9nsd_)0*(\d{1,6})")
QM9_LISTS = ("uncharacterized.txt", "qm9_uncharacterized_idx.txt", "3195404")  # the last is figshare's name
MOST_SHOWN = 200  # characters of the names of columns in a message
WHOLE = 1 << 26  # bytes; files up to this size are identified by their whole content
END = 1 << 20  # bytes; larger files by size, time and this much of their end, where Parquet keeps its index

Spread = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]  # like `map`, perhaps in parallel
Row = TypeVar("Row")


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
        targets: (column, target, factor to its unit).
        ignored: columns that are not read.
        excluded: 1-based QM9 indices that a list next to the file advises against.
        notes: lines that tell the user about it.
        formats: names of the formats of its raw records, empty if it has none (see `formats`).
        spin_is_2s: its column `spin` is the number of unpaired electrons, not the multiplicity.
        part: part of a published split that it is: `train` or `val`, "" for none.
        own_text: (text field of the user, column that it is read from).
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
    own_text: tuple[tuple[str, str], ...] = ()

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

    def has(self) -> str:
        """Say what it has beside its geometries, for a message on a target that no source has."""
        names = [name for name in self.columns if name not in GEOMETRY]
        return (
            f"its columns are {printable(', '.join(names))[:MOST_SHOWN]}"
            if names
            else "it has no other column"
        )

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.path.stat().st_size

    def reading_text(self, text_columns: dict[str, str]) -> Source:
        """Return this source with the user's own text fields that it has.

        Args:
            text_columns: column of each field, `data.text_columns`.

        Raises:
            UserError: such a column is a target, or of a type that is no text.
        """
        found = tuple((field, column) for field, column in text_columns.items() if column in self.columns)
        columns = {column for _, column in found}
        for column, target, _ in self.targets:
            if column in columns:
                raise UserError(
                    f"{self.path}: column '{column}' is the target {target.name} and a field of "
                    "data.text_columns: a model would read what it has to learn; leave it out of one of both"
                )
        ignored = tuple(name for name in self.ignored if name not in columns)
        return replace(self, own_text=found, ignored=ignored)

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


def is_qm9_table(columns: Iterable[str]) -> bool:
    """Whether a table is QM9: it has the names of QM9's index, rotational constants and all targets."""
    have = set(columns)
    return have >= {"A", "B", "C", *QM9_UNITS} and bool(have & {"gdb_idx", "mol_id"})


def qm9_list(folder: Path, named: Iterable[Path] = ()) -> frozenset[int]:
    """Return the indices in the list of uncharacterised molecules; empty without such a list.

    Args:
        folder: where the list is if it is not named.
        named: lists that the user named.

    Raises:
        UserError: the list has no index.
    """
    for path in (*named, *(folder / name for name in QM9_LISTS)):
        if path.is_file():
            return qm9_indices(path.read_text(encoding="utf-8", errors="replace"), str(path))
    return frozenset()


def qm9_indices(text: str, name: str) -> frozenset[int]:
    """Return the indices in a list of uncharacterised molecules.

    The figshare file has the index at the start of each line of its table; a plain list is read the same way.

    Raises:
        UserError: the list, which is called `name`, has no index.
    """
    indices = frozenset(int(word) for word in re.findall(r"^\s*(\d{1,6})(?=\s|$)", text, re.MULTILINE))
    if not indices:
        raise UserError(f"{name} lists no molecule: get it anew or move it away")
    return indices


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


def column_name(word: str) -> str:
    """Return the name of a column without blanks around it, in lower case if it is a known one.

    Known are `IDENTIFIERS` and `TEXT_COLUMNS`; files of all forms may write them in any case.
    """
    name = word.strip()
    lowered = name.lower()
    return lowered if lowered in KNOWN_COLUMNS else name


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
