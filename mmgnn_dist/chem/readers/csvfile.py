"""CSV and TSV tables of SMILES, or of geometries as lists, and files of SMILES and names (.smi).

Each row is one record. A row with too many or too few fields is set aside. Columns without a name are not
read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmgnn_dist.chem.checks import OVERSIZED, REASONS, UNREADABLE, BadRecord
from mmgnn_dist.chem.labels import NO_LABELS, Beside, LabelUse, labels_of
from mmgnn_dist.chem.own_targets.target_columns import declared_columns, resolve_targets
from mmgnn_dist.chem.rdkit_tools import rdkit_version
from mmgnn_dist.chem.readers.columns import known_names
from mmgnn_dist.chem.readers.record import Census
from mmgnn_dist.chem.readers.source import (
    IDENTIFIERS,
    QM9_EXTRA,
    QM9_UNITS,
    TEXT_COLUMNS,
    SequentialStream,
    is_qm9_table,
    printable,
    qm9_list,
    qm9_notes,
)
from mmgnn_dist.chem.readers.table import FAULT, WHY, TableSource
from mmgnn_dist.chem.readers.tables.id_column import IdColumn, id_note
from mmgnn_dist.chem.readers.tables.text_geometry import find_text_geometry
from mmgnn_dist.chem.streams.csv_rows import (
    DECIMAL_COMMA,
    DECIMAL_POINT,
    MAX_LINE,
    CsvHead,
    Fields,
    csv_table,
)
from mmgnn_dist.chem.streams.members import Member, members
from mmgnn_dist.config import Declared
from mmgnn_dist.errors import UserError

TABLES = (".csv", ".tsv")
SMILES_FILES = (".smi", ".smiles", ".ism", ".can")
SUFFIXES = (*TABLES, *SMILES_FILES)
SMILES_HEAD = CsvHead(("smiles", "id"), " ")
LOOKED_AT_ROWS = 1000  # rows that show where the geometry is


@dataclass(frozen=True)
class CsvSource(TableSource):
    """A CSV file, or a file of SMILES and names.

    Attributes:
        digest: SHA-256 of its content.
        commas: columns whose numbers have a decimal comma.
    """

    digest: str = ""
    commas: frozenset[str] = frozenset()

    sequential = True

    @property
    def embeds(self) -> bool:
        """Whether its geometries are made from SMILES."""
        return "positions" not in self.columns

    def content(self) -> list[Any]:
        """Return the values that identify the content."""
        return [self.digest, sorted(self.excluded), rdkit_version()]

    def stream(self, start: int) -> CsvStream:
        """Open a stream at row `start`."""
        return CsvStream(self.path, start, dict(self.renamed), self.commas)


class CsvStream(SequentialStream[Fields]):
    """Rows of a CSV file as a table of text."""

    def __init__(self, path: Path, start: int, known: dict[str, str], commas: frozenset[str]):
        head, rows = read_rows(path)
        super().__init__(path, rows, start)
        names = head.names if isinstance(head, CsvHead) else ()
        self.width = len(names)
        in_file = [(name.strip(), place) for place, name in enumerate(names) if name]
        self.places = [(known.get(name, name), place) for name, place in in_file]
        self.commas = commas

    def table(self, rows: list[Fields]) -> pa.Table:
        """Return rows as columns of text, with the verdict on each row."""
        cut = [_cut(row, self.width) for row in rows]
        columns: dict[str, Any] = {}
        for name, place in self.places:
            values = [row[place] if isinstance(row, list) else None for row in cut]
            if name in self.commas:
                values = [_with_point(value) for value in values]
            columns[name] = pa.array(values, pa.large_string())
        bad = [row if isinstance(row, BadRecord) else None for row in cut]
        columns[FAULT] = pa.array([REASONS.index(fault.reason) if fault else 0 for fault in bad], pa.int8())
        columns[WHY] = pa.array([fault.detail if fault else None for fault in bad], pa.large_string())
        return pa.table(columns)


def inspect_csv(path: Path, name: str, declared: Declared, beside: Beside = NO_LABELS) -> CsvSource:
    """Count the rows of a CSV file and learn its columns.

    Raises:
        UserError: there are no SMILES and no geometries; also see `readers.find_sources`.
    """
    head, rows = read_rows(path)
    if isinstance(head, BadRecord):
        raise UserError(f"{path} cannot be read ({head}): get it anew")
    in_file = tuple(word.strip() for word in head.names)
    known = known_names(path, [word for word in in_file if word], declared_columns(declared))
    columns = tuple(known.get(word, word) for word in in_file)
    first_rows: list[dict[str, str]] = []
    census, digest, count = Census(declared), hashlib.sha256(repr(columns).encode()), 0
    nameless, replaced, use = Counter[int](), 0, LabelUse(beside.labels)
    ids = IdColumn(columns, declared)
    forms: dict[str, list[bool]] = {column: [False, False] for column in columns}
    for row in rows:
        count += 1
        digest.update(repr(row).encode("utf-8", "replace"))
        fields = _cut(row, len(columns))
        if isinstance(fields, BadRecord):
            continue
        replaced += any("\ufffd" in field for field in fields)
        nameless.update(place for place, column in enumerate(columns) if not column and fields[place].strip())
        values = {column: field for column, field in zip(columns, fields, strict=True) if column}
        if head.delimiter == ";":
            values = _decimals(values, forms)
        census.add(values)
        ids.add(values)
        if len(first_rows) < LOOKED_AT_ROWS:
            first_rows.append(values)
        use.add((values.get("id", "").strip(),))
    commas = frozenset(column for column, (comma, point) in forms.items() if comma and not point)
    named = tuple(column for column in columns if column)
    own_ids = None if is_qm9_table(named) else ids.chosen
    layout = find_text_geometry(path, named, first_rows)
    renamed = layout.known_columns()
    qm9 = is_qm9_table(named)
    kinds = census.columns(declared)
    kinds += labels_of(path, beside.labels, named, census, declared)
    non_targets = {*IDENTIFIERS, *TEXT_COLUMNS, "inchi", *renamed, *(QM9_EXTRA if qm9 else ())}
    given = (QM9_UNITS if qm9 else census.stated_units(declared)) | declared
    targets, ignored = resolve_targets(path, kinds, given, non_targets, census.classes_of)
    excluded = qm9_list(path.parent, beside.lists) if qm9 else frozenset[int]()
    notes = [f"{path.name}: column {place + 1} has no name and is not read" for place in sorted(nameless)]
    notes += [f"{path.name}: {line}" for line in census.value_notes(targets)]
    if not targets and head is SMILES_HEAD and beside.labelled:
        notes.append(
            f"{path.name} has no labels of its own: name a table of labels by id (CSV or Parquet), too"
        )
    if replaced:
        notes.append(
            f"{path.name}: {replaced} rows are not in UTF-8, some of their letters are lost: save it as UTF-8"
        )
    notes += use.notes(path)
    if own_ids and own_ids not in renamed:
        renamed = renamed | {own_ids: "id"}
        notes.append(id_note(path, own_ids))
    return CsvSource(
        path,
        name,
        count,
        (*(renamed.get(name, name) for name in named), *_columns_beside(beside)),
        qm9,
        targets,
        ignored,
        excluded,
        tuple(map(printable, (*layout.notes, *(qm9_notes(path, excluded) if qm9 else ()), *notes))),
        renamed=tuple(({old: renamed.get(new, new) for old, new in known.items()} | renamed).items()),
        axes_first=layout.axes_first,
        padded=layout.padded,
        digest="".join([digest.hexdigest(), *(labels.digest for labels in beside.labels)]),
        commas=commas,
        labels=beside.labels,
    )


def read_rows(path: Path) -> tuple[CsvHead | BadRecord, Iterator[Fields]]:
    """Return the header of a file and an iterator over its rows."""
    files = members(path, SUFFIXES)
    member = next(files, None)
    if member is None:
        return CsvHead((), ","), iter(())
    if isinstance(member.content, BadRecord):
        return member.content, iter(())
    head: CsvHead | BadRecord
    if member.suffix in SMILES_FILES:
        head, rows = SMILES_HEAD, _smiles_rows(member.content)
    else:
        head, rows = csv_table(member.content)
    return head, _rows_of(files, rows)


def _rows_of(files: Iterator[Member], rows: Iterator[Fields]) -> Iterator[Fields]:
    """Yield rows; their file is open as long as there is a reference to `files`."""
    yield from rows
    del files


def _smiles_rows(stream: Any) -> Iterator[Fields]:
    """Yield SMILES and name of each line; the name is what follows the first blank. Pass over a header."""
    first = True
    try:
        while line := stream.readline(MAX_LINE):
            words = line.decode("utf-8", "replace").replace("\0", "").split(None, 1)
            if len(line) == MAX_LINE:
                yield BadRecord(OVERSIZED, f"a line of more than {MAX_LINE} bytes")
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_LINE)
            elif words and not words[0].startswith("#") and not (first and words[0].lower() == "smiles"):
                yield [words[0], words[1].strip() if len(words) > 1 else ""]
            first = first and not words
    except BadRecord as error:
        yield error


def _columns_beside(beside: Beside) -> list[str]:
    return [column for labels in beside.labels for column in labels.columns]


def _cut(row: Fields, width: int) -> Fields:
    """Return the fields of a row; empty ones behind the last column are cut, as Excel writes them."""
    if isinstance(row, BadRecord):
        return row
    if len(row) > width and not any(field.strip() for field in row[width:]):
        row = row[:width]
    if len(row) != width:
        return BadRecord(UNREADABLE, f"{len(row)} fields where the header has {width}")
    return row


def _decimals(values: dict[str, str], forms: dict[str, list[bool]]) -> dict[str, str]:
    """Note which columns have decimal commas and points; return the values with points."""
    for column, value in values.items():
        forms[column][0] |= DECIMAL_COMMA.fullmatch(value) is not None
        forms[column][1] |= DECIMAL_POINT.fullmatch(value) is not None
    return {column: _with_point(value) or "" for column, value in values.items()}


def _with_point(value: str | None) -> str | None:
    return value.replace(",", ".") if value and DECIMAL_COMMA.fullmatch(value) else value
