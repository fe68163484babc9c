"""A Parquet file as a table of labels by id: its columns as text, as a table in text form has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmgnn_dist.chem.readers.source import one_line
from mmgnn_dist.chem.readers.tables.arrow_types import is_list_type, plain_table, plain_type
from mmgnn_dist.chem.readers.tables.geometry import NUMBER_NAMES, POSITION_NAMES
from mmgnn_dist.chem.streams.csv_rows import has_smiles
from mmgnn_dist.errors import UserError

STREAM_ROWS = 4096


def label_columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a Parquet file without SMILES and geometries; none of a file that has them.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:  # Arrow opens only names in UTF-8
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file ({one_line(error)})") from None
    geometry = any(
        field.name.lower() in (*POSITION_NAMES, *NUMBER_NAMES) and is_list_type(plain_type(field.type))
        for field in schema
    )
    return () if geometry or has_smiles(tuple(schema.names)) else tuple(schema.names)


def label_rows_of(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a Parquet file as text.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with open(path, "rb") as content, pq.ParquetFile(content) as file:
            for batch in file.iter_batches(STREAM_ROWS, use_threads=False):
                columns = plain_table(pa.Table.from_batches([batch])).columns
                words = [[_word(value) for value in column.to_pylist()] for column in columns]
                yield from map(list, zip(*words, strict=True))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): get it anew") from None


def _word(value: Any) -> str:
    """Return a value as text; whole numbers without a fraction: nulls turn a column of them into floats."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
