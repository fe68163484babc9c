"""Parquet files of molecules: with geometry, or with SMILES alone (see `conformers`).

A row range is decoded from its start, so several tasks can read one file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmgnn_dist.chem.readers.columns import check_columns
from mmgnn_dist.chem.readers.source import (
    GEOMETRY,
    IDENTIFIERS,
    QM9_EXTRA,
    QM9_UNITS,
    TEXT_COLUMNS,
    Source,
    is_qm9_table,
    one_line,
    qm9_list,
    qm9_notes,
    resolve_targets,
)
from mmgnn_dist.chem.readers.table import TableSource
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

    def stream(self, start: int) -> RowStream:
        """Open a stream at row `start`."""
        return RowStream(self.path, self.wanted(), start)

    def wanted(self) -> list[str]:
        """Return the columns to read."""
        names = [*GEOMETRY, "id", "gdb_idx", "mol_id", "smiles", "inchikey", *TEXT_COLUMNS]
        names += [column for column, _, _ in self.targets] + (["uncharacterized"] if self.qm9 else [])
        names += [column for _, column in self.own_text]
        return [name for name in dict.fromkeys(names) if name in self.columns]

    def reading_text(self, text_columns: dict[str, str]) -> Source:
        """Return this source with the user's own text fields that it has; see `Source.reading_text`."""
        source = super().reading_text(text_columns)
        check_columns(self.path, open_parquet(self.path)[0], (), [column for _, column in source.own_text])
        return source


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


def inspect_parquet(path: Path, name: str, units: dict[str, str]) -> Source:
    """Recognise one Parquet file by its columns (see `readers.find_sources` for the errors)."""
    schema, rows = open_parquet(path)
    columns = tuple(schema.names)
    absent = [column for column in GEOMETRY if column not in columns]
    if absent and "smiles" not in columns:
        raise UserError(
            f"{path} has no column {' and no column '.join(absent)}: molecules need atomic_numbers (list) "
            "and positions (list, Å), or smiles"
        )
    qm9 = set(columns) >= QM9_SIGN or is_qm9_table(columns)
    default_units = QM9_UNITS if qm9 else {}
    metadata = (schema.metadata or {}).get(b"mmgnn.units")
    if metadata:
        try:
            default_units = default_units | dict(json.loads(metadata))
        except ValueError:
            raise UserError(f"{path}: its metadata mmgnn.units is not a JSON object") from None
    non_targets = {"uncharacterized", *GEOMETRY, *IDENTIFIERS, *TEXT_COLUMNS, *(QM9_EXTRA if qm9 else ())}
    column_types = [(field.name, "" if _is_number(field.type) else str(field.type)) for field in schema]
    targets, ignored = resolve_targets(path, column_types, default_units | units, non_targets)
    excluded = qm9_list(path.parent) if qm9 and "uncharacterized" not in columns else frozenset[int]()
    notes = qm9_notes(path, excluded) if qm9 and "uncharacterized" not in columns else ()
    source = ParquetSource(path, name, rows, columns, qm9, targets, ignored, excluded, notes)
    target_columns = {column for column, _, _ in targets}
    check_columns(path, schema, [column for column in source.wanted() if column not in target_columns])
    return source


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


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
