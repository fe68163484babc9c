"""Tables of labels that are joined to molecules by id: QM9's `gdb9.sdf.csv`, or a table beside XYZ files.

Such a table, CSV or Parquet, has a column of ids and no SMILES. A CSV file may lie in the archive of the
molecules.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa

from mmgnn_dist.chem.checks import BadRecord
from mmgnn_dist.chem.readers.record import Census
from mmgnn_dist.chem.readers.source import QM9_ID, QM9_UNITS, column_name, is_qm9_table
from mmgnn_dist.chem.readers.tables.geometry import LOOKED_AT
from mmgnn_dist.chem.readers.tables.label_parquet import label_columns, label_rows_of
from mmgnn_dist.chem.readers.tables.text_geometry import has_text_geometry
from mmgnn_dist.chem.streams.csv_rows import DECIMAL_COMMA, Fields, csv_table, has_smiles
from mmgnn_dist.chem.streams.members import members, strip_packing
from mmgnn_dist.config import Declared
from mmgnn_dist.errors import UserError

KEYS = ("id", "mol_id", "gdb_idx", "name", "title", "molecule", "mol", "file", "filename")  # columns of ids
TABLES = (".csv", ".tsv")
PARQUET = (".parquet", ".pq")
MOST_BYTES = 1 << 28  # of memory for one table
MASK = (1 << 64) - 1
PER_VALUE = 50  # bytes that a short text takes beside its letters
FILE = re.compile(r"\.(xyz|extxyz|sdf|sd|mol)$", re.IGNORECASE)  # a table may give the names of files


@dataclass(frozen=True)
class LabelTable:
    """A table of labels by id.

    Attributes:
        path: the file, or the archive in which it lies.
        member: its name in the archive; "" for a file of its own.
        key: place of the column of ids.
        columns: names of its other columns.
        qm9: whether it has the columns of QM9.
        digest: SHA-256 of its content.
    """

    path: Path
    member: str
    key: int
    columns: tuple[str, ...]
    qm9: bool
    digest: str = ""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.member}.csv" if self.member else self.path.name


@dataclass(frozen=True)
class Beside:
    """What is read together with the molecules of a source.

    Attributes:
        labels: tables of labels by id.
        lists: files that list the molecules that QM9's authors advise against.
        add_hydrogens: whether hydrogens that bonds require are added.
        labelled: whether labels are wanted, so that the user is told where they lack.
    """

    labels: tuple[LabelTable, ...] = ()
    lists: tuple[Path, ...] = ()
    add_hydrogens: bool = False
    labelled: bool = True


NO_LABELS = Beside()


def label_tables(path: Path) -> list[LabelTable]:
    """Return the tables of labels in a CSV or Parquet file or in an archive, without tables of molecules.

    Raises:
        UserError: a table names an id twice.
    """
    found = []
    own = Path(strip_packing(path.name)).suffix.lower() in (*TABLES, *PARQUET)
    for member, in_file, _ in _tables_in(path):
        names = [column_name(name) for name in in_file]
        lowered = [name.lower() for name in names]
        key = next((lowered.index(name) for name in KEYS if name in lowered), None)
        if key is not None:
            qm9 = is_qm9_table([*lowered, *names])
            columns = tuple(name for place, name in enumerate(names) if _is_label(name, place, key, qm9))
            table = LabelTable(path, "" if own else member, key, columns, qm9)
            digest = hashlib.sha256(repr(sorted(_read_rows(table).items())).encode("utf-8", "replace"))
            found.append(replace(table, digest=digest.hexdigest()))
    return found


def _tables_in(path: Path) -> Iterator[tuple[str, tuple[str, ...], Iterator[Fields]]]:
    """Yield name, columns and rows of each table without SMILES and geometries."""
    if path.suffix.lower() in PARQUET:
        if names := label_columns(path):
            yield path.stem, names, label_rows_of(path)
        return
    for member in members(path, TABLES):
        if isinstance(member.content, BadRecord):
            continue
        head, rows = csv_table(member.content)
        if isinstance(head, BadRecord) or has_smiles(head.names):
            continue
        first = list(islice(rows, LOOKED_AT))
        if not has_text_geometry(head.names, first):
            rows = chain(first, rows)
            yield member.name, head.names, _with_points(rows) if head.delimiter == ";" else rows


def _with_points(rows: Iterator[Fields]) -> Iterator[Fields]:
    """Yield rows with a decimal point in place of a decimal comma."""
    for row in rows:
        if isinstance(row, BadRecord):
            yield row
        else:
            yield [field.replace(",", ".") if DECIMAL_COMMA.fullmatch(field) else field for field in row]


@lru_cache(maxsize=4)
def label_rows(table: LabelTable) -> dict[str, tuple[str, ...]]:
    """Return the values of each id, in the order of `columns`.

    Raises:
        UserError: an id has two rows with different values.
    """
    return _read_rows(table)


def _read_rows(table: LabelTable) -> dict[str, tuple[str, ...]]:
    rows: dict[str, tuple[str, ...]] = {}
    for member, names, lines in _tables_in(table.path):
        if table.member and member != table.member:
            continue
        places = [
            place
            for place, name in enumerate(names)
            if _is_label(column_name(name), place, table.key, table.qm9)
        ]
        size = 0
        for line in lines:
            if isinstance(line, BadRecord) or len(line) <= table.key:
                continue
            own = label_id(line[table.key], names[table.key])
            values = tuple(line[place].strip() if place < len(line) else "" for place in places)
            size += sum(map(len, values)) + PER_VALUE * (len(values) + 2)
            if size > MOST_BYTES:
                raise UserError(
                    f"{table.name} has more than {MOST_BYTES >> 20} MB of labels: give them in the "
                    "molecules' own files"
                )
            if own and rows.setdefault(own, values) != values and not table.qm9:
                raise UserError(f"{table.name}: '{own}' has two rows with different values: keep one")
    return rows


def _is_label(name: str, place: int, key: int, qm9: bool) -> bool:
    return name in QM9_UNITS if qm9 else place != key and bool(name)


def label_id(text: str, column: str = "") -> str:
    """Return an id as molecules have it: QM9's own name, else the text, without the suffix of a file."""
    word = text.strip()
    if column.lower() == "gdb_idx" and word.isdecimal():
        word = f"gdb_{word}"
    match = QM9_ID.fullmatch(word)
    return f"dsgdb9nsd_{int(match[1]):06d}" if match else FILE.sub("", strip_packing(word))


def join_labels(tables: Iterable[LabelTable], ids: Iterable[str]) -> dict[str, str]:
    """Return the labels of a molecule, by column; empty if no table knows one of its ids."""
    names = with_base(ids)
    found: dict[str, str] = {}
    for table in tables:
        rows = label_rows(table)
        values = next((rows[own] for own in names if own in rows), None)
        if values is not None:
            found |= dict(zip(table.columns, values, strict=True))
    return found


def with_labels(tables: Iterable[LabelTable], molecules: pa.Table, ids: Iterable[str | None]) -> pa.Table:
    """Return a table of molecules with the columns of their labels, as text."""
    tables = tuple(tables)
    rows = [join_labels(tables, (name or "",)) for name in ids]
    for column in sorted({column for labels in tables for column in labels.columns}):
        values = [row.get(column) for row in rows]
        molecules = molecules.append_column(column, pa.array(values, pa.large_string()))
    return molecules


def with_base(ids: Iterable[str]) -> tuple[str, ...]:
    """Return ids, and behind them those without the folders of a file: `1` for `mols/1`."""
    names = tuple(ids)
    return (*names, *(name.rpartition("/")[2] for name in names if "/" in name))


def labels_of(
    path: Path, tables: Iterable[LabelTable], own: Iterable[str], molecules: Census, declared: Declared
) -> list[tuple[str, str]]:
    """Return name and kind of each column of labels, as `Census.columns` does.

    Args:
        path: the source that the labels are for.
        tables: the tables of labels.
        own: columns that the source has itself.
        molecules: census of the source, which gets the classes in the labels.
        declared: what the recipe declares of targets.

    Raises:
        UserError: a source has such a column itself.
    """
    census = Census(declared)
    for table in tables:
        for column in table.columns:
            if column in own and not table.qm9:
                raise UserError(
                    f"'{column}' is in {path.name} and in {table.name}: remove or rename one of them"
                )
        for values in label_rows(table).values():
            census.add(dict(zip(table.columns, values, strict=True)))
    molecules.classes |= census.classes
    return census.columns(declared)


def side_table(path: Path, beside: Beside) -> list[LabelTable]:
    """Return the table of QM9's values beside its SD file, such as gdb9.sdf.csv.

    Raises:
        UserError: there is such a file, and it is not that of QM9.
    """
    side = path.with_name(path.name + ".csv")
    if not path.is_file() or not side.is_file() or side in [table.path for table in beside.labels]:
        return []
    tables = label_tables(side)
    if not tables or not tables[0].qm9:
        raise UserError(
            f"{side} is next to {path.name} and lacks columns of QM9 (mol_id, A, B, C, "
            f"{', '.join(QM9_UNITS)}): name it on the command line, too, if its rows are labels by id, else "
            "move it away"
        )
    return tables


class LabelUse:
    """Counts which molecules have labels, and which labels have a molecule.

    Args:
        tables: the tables of labels.
    """

    def __init__(self, tables: Iterable[LabelTable]):
        self.tables = tuple(tables)
        self.counts = [0] * len(self.tables)
        self.used = [array("Q") for _ in self.tables]
        self.by_base = defaultdict[str, set[str]](set)  # files of molecules by the row that has no folder
        self.molecules = 0
        self.first = ""

    def add(self, names: tuple[str, ...]) -> None:
        """Look up one molecule by its names."""
        self.molecules += 1
        self.first = self.first or next(iter(names), "")
        for place, table in enumerate(self.tables):
            rows = label_rows(table)
            if own := next((name for name in with_base(names) if name in rows), None):
                self.counts[place] += 1
                self.used[place].append(hash(own) & MASK)
                if own not in names:
                    self.by_base[f"{table.name}: '{own}'"].add(names[-1])

    def notes(self, path: Path) -> list[str]:
        """Return a line on each table: how many molecules it labels, and how many of its rows belong to none.

        Raises:
            UserError: a table labels no molecule of `path`, or names a file without its folder and two have
                its name.
        """
        lines = []
        for row, files in self.by_base.items():
            if len(files) > 1:
                shown = " and ".join(sorted(files)[:2])
                raise UserError(f"{row} may be {shown} of {path.name}: write ids with their folders")
        for table, count, used in zip(self.tables, self.counts, self.used, strict=True):
            rows = label_rows(table)
            if not count:
                raise UserError(
                    f"{table.name} labels no molecule of {path.name}: its first id is "
                    f"'{next(iter(rows), '')}', that of the first molecule is '{self.first}'"
                )
            unused = len(rows) - len(set(used))
            rest = f"; {unused} of its rows belong to no molecule" if unused else ""
            lines.append(
                f"{table.name}: labels of {count} of {self.molecules} molecules of {path.name}, by id{rest}"
            )
        return lines
