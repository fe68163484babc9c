"""Parquet files of molecules: with geometry, or with SMILES alone (see `conformers`).

A row range is decoded from its start, so several tasks can read one file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from mmgnn_dist.chem.composition import stating_columns
from mmgnn_dist.chem.labels import NO_LABELS, Beside, LabelUse, labels_of
from mmgnn_dist.chem.own_targets.classes import MOST, class_name
from mmgnn_dist.chem.own_targets.target_columns import declared_columns, resolve_targets
from mmgnn_dist.chem.own_targets.target_names import known_name
from mmgnn_dist.chem.own_targets.values import is_missing, is_value
from mmgnn_dist.chem.readers.columns import check_columns, known_names
from mmgnn_dist.chem.readers.record import Census
from mmgnn_dist.chem.readers.source import (
    GEOMETRY,
    IDENTIFIERS,
    KNOWN_COLUMNS,
    QM9_EXTRA,
    QM9_UNITS,
    TEXT_COLUMNS,
    Source,
    is_qm9_table,
    one_line,
    qm9_list,
    qm9_notes,
)
from mmgnn_dist.chem.readers.table import TableSource, strings
from mmgnn_dist.chem.readers.tables.arrow_types import (
    is_list_type,
    is_number_type,
    is_text_type,
    plain_table,
    plain_type,
)
from mmgnn_dist.chem.readers.tables.geometry import find_geometry
from mmgnn_dist.chem.readers.tables.id_column import IdColumn, id_note
from mmgnn_dist.chem.states.charge_spin import state_columns
from mmgnn_dist.config import Declared
from mmgnn_dist.errors import UserError

STREAM_ROWS = 4096
QM9_SIGN = frozenset({"gdb_idx", "A", "B", "C", *GEOMETRY})


@dataclass(frozen=True)
class ParquetSource(TableSource):
    """A Parquet file."""

    @property
    def embeds(self) -> bool:
        """Whether its geometries are made from SMILES."""
        return "positions" not in self.columns

    def content(self) -> list[Any]:
        """Return the values that identify the content."""
        return [*super().content(), *(labels.digest for labels in self.labels)]

    def stream(self, start: int) -> RowStream:
        """Open a stream at row `start`."""
        return RowStream(self.path, self.wanted(), start)

    def wanted(self) -> list[str]:
        """Return the columns to read, by their names in the file."""
        names = [*GEOMETRY, "id", "gdb_idx", "mol_id", "smiles", "inchikey", "inchi", *TEXT_COLUMNS]
        names += stating_columns(self.columns).values()
        names += [column for column, _, _ in self.targets] + (["uncharacterized"] if self.qm9 else [])
        names += state_columns(self.columns, self.targets)
        names += [column for _, column in self.own_text]
        if self.embeds:
            names = names[len(GEOMETRY) :]
        beside = {column for labels in self.labels for column in labels.columns}
        return self._in_file(
            name for name in dict.fromkeys(names) if name in self.columns and name not in beside
        )

    def reading_text(self, text_columns: dict[str, str]) -> Source:
        """Return this source with the user's own text fields that it has; see `Source.reading_text`."""
        source = super().reading_text(text_columns)
        own_columns = self._in_file(column for _, column in source.own_text)
        check_columns(self.path, open_parquet(self.path)[0], (), words=own_columns)
        return source

    def _in_file(self, columns: Iterable[str]) -> list[str]:
        """Return the names that columns have in the file."""
        in_file = {known: name for name, known in self.renamed}
        return [in_file.get(column, column) for column in columns]


class RowStream:
    """Consecutive rows of a Parquet file, decoded on demand."""

    def __init__(self, path: Path, columns: list[str], start: int):
        self.path, self.position = path, start
        file = pq.ParquetFile(path)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        first = int(np.searchsorted(ends, start, side="right"))
        self._skip = start - int(ends[first - 1]) if first else start
        groups = list(range(first, len(sizes)))
        self._batches: Iterator[pa.RecordBatch] = file.iter_batches(
            STREAM_ROWS, row_groups=groups, columns=columns, use_threads=False
        )
        self._rest: pa.Table | None = None

    def read(self, rows: int) -> pa.Table:
        """Read the next `rows` rows.

        Raises:
            UserError: the file is damaged or has fewer rows than its metadata says.
        """
        parts, missing = [], rows
        while missing:
            table = self._rest if self._rest is not None else self._next()
            skip = min(self._skip, table.num_rows)
            self._skip -= skip
            part = table.slice(skip, missing)
            rest = table.slice(skip + part.num_rows)
            self._rest = rest if rest.num_rows else None
            missing -= part.num_rows
            parts.append(part)
        self.position += rows
        return pa.concat_tables(parts)

    def _next(self) -> pa.Table:
        try:
            return pa.Table.from_batches([next(self._batches)])
        except StopIteration:
            raise UserError(f"{self.path} ends before its last row: it is damaged, get it anew") from None
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.path} is damaged ({one_line(error)}): get it anew") from None


def inspect_parquet(path: Path, name: str, declared: Declared, beside: Beside = NO_LABELS) -> Source:
    """Recognise one Parquet file by its columns (see `readers.find_sources` for the errors)."""
    schema, rows = open_parquet(path)
    known = known_names(path, schema.names, declared_columns(declared))
    smiles = next((name for name in schema.names if known.get(name, name) == "smiles"), None)
    layout = find_geometry(path, schema, smiles, partial(_portions, path))
    known |= layout.known_columns()
    columns = tuple(known.get(name, name) for name in schema.names)
    if layout.positions is None:
        columns = tuple(name for name in columns if name not in GEOMETRY)
    qm9 = set(columns) >= QM9_SIGN or is_qm9_table(columns)
    default_units: Declared = QM9_UNITS if qm9 else {}
    metadata = (schema.metadata or {}).get(b"mmgnn.units")
    if metadata:
        try:
            default_units = default_units | dict(json.loads(metadata))
        except ValueError:
            raise UserError(f"{path}: its metadata mmgnn.units is not a JSON object") from None
    own_ids = None if qm9 else _own_ids(path, schema, columns, declared)
    if own_ids:
        known[own_ids] = "id"
        columns = tuple("id" if name == own_ids else name for name in columns)
    non_targets = {"uncharacterized", "inchi", *GEOMETRY, *IDENTIFIERS, *TEXT_COLUMNS}
    non_targets |= QM9_EXTRA if qm9 else frozenset()
    given = default_units | declared
    wanted = declared_columns(given)
    column_types = [
        (
            known.get(field.name, field.name),
            _kind(
                path, field, field.name.lower() in wanted or known_name(field.name, schema.names) is not None
            ),
        )
        for field in schema
    ]
    in_file = {new: old for old, new in known.items()}
    census = Census(declared)
    column_types += labels_of(path, beside.labels, columns, census, declared)
    use = LabelUse(beside.labels)
    for own in _ids(path, in_file.get("id", "id"), columns) if beside.labels else ():
        use.add((own,))
    beside_columns = [column for labels in beside.labels for column in labels.columns]

    def classes_of(column: str) -> set[str]:
        return census.classes_of(column) if column in beside_columns else _classes(path, in_file, column)

    targets, ignored = resolve_targets(path, column_types, given, non_targets, classes_of)
    excluded = qm9_list(path.parent) if qm9 and "uncharacterized" not in columns else frozenset[int]()
    notes = qm9_notes(path, excluded) if qm9 and "uncharacterized" not in columns else ()
    source = ParquetSource(
        path,
        name,
        rows,
        (*columns, *beside_columns),
        qm9,
        targets,
        ignored,
        excluded,
        (*layout.notes, *notes, *([id_note(path, own_ids)] if own_ids else []), *use.notes(path)),
        renamed=tuple((old, new) for old, new in known.items() if old != new),
        axes_first=layout.axes_first,
        padded=layout.padded,
        labels=beside.labels,
    )
    unchecked = {column for column, _, _ in targets} | set(state_columns(columns, targets))
    unchecked |= set(stating_columns(columns).values()) - KNOWN_COLUMNS
    read = [column for column in source.wanted() if known.get(column, column) not in unchecked]
    check_columns(path, schema, read, known)
    return source


def _own_ids(path: Path, schema: pa.Schema, columns: tuple[str, ...], declared: Declared) -> str | None:
    """Return the column of ids of a file that has no column id; None without one."""
    words = {field.name for field in schema if is_text_type(field.type) or types.is_integer(field.type)}
    ids = IdColumn(columns, declared, set(columns) - words)
    for column in ids.candidates:
        for table in _portions(path, [column]):
            for value in strings(table[column]).to_pylist():
                ids.add_value(column, value or "")
    return ids.chosen


def _ids(path: Path, column: str, columns: tuple[str, ...]) -> Iterator[str]:
    """Yield the id of each row, "" where it has none."""
    for table in _portions(path, [column]) if "id" in columns else ():
        yield from (own or "" for own in strings(table[column]).to_pylist())


def _portions(path: Path, names: list[str]) -> Iterator[pa.Table]:
    """Yield the rows of some columns in plain form, from the start of a file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(STREAM_ROWS, columns=names, use_threads=False):
                yield plain_table(pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): get it anew") from None


def _kind(path: Path, field: pa.Field, wanted: bool) -> str:
    """Return "" for a column of numbers, else its type; numbers of a target may be text, or all missing."""
    kind = plain_type(field.type)
    is_list = is_list_type(kind) and is_number_type(kind.value_type)  # of one number, or a dipole
    if is_number_type(kind) or (wanted and (is_list or types.is_null(kind))):
        return ""
    if wanted and is_text_type(field.type):
        table = next(_portions(path, [field.name]), None)
        words = strings(table[field.name]).drop_null().to_pylist() if table is not None else []
        if all(map(is_missing, words)) or any(map(is_value, words)):
            return ""
    return str(field.type)


def _classes(path: Path, in_file: dict[str, str], column: str) -> set[str]:
    """Return the class names in a column, at most some more than there may be."""
    names, name_there = set[str](), in_file.get(column, column)
    for table in _portions(path, [name_there]):
        values = table[name_there].unique().to_pylist()
        names |= {name for value in values if (name := class_name(value))}
        if len(names) > MOST:
            break
    return names


def open_parquet(path: Path) -> tuple[pa.Schema, int]:
    """Return schema and number of rows of a Parquet file.

    Raises:
        UserError: the file cannot be read as Parquet.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file ({one_line(error)})") from None
