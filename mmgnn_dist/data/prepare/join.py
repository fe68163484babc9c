"""Text fields: one clean form for all sources, and the join of the tables of `--text`.

A molecule finds its row of a table by its InChIKey, else by the key's first block (a record without
stereochemistry is preferred), else by its source id. If several tables have a field, the first table wins
(see `providers` for the molecule's own file and RDKit). `field_sources` keeps the origin of every field.
Blank strings and the words None, nan, null count as missing.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.readers.columns import check_columns
from mmgnn_dist.chem.readers.parquet import open_parquet
from mmgnn_dist.chem.readers.source import TEXT_COLUMNS, one_line
from mmgnn_dist.chem.readers.table import qm9_ids, strings
from mmgnn_dist.chem.readers.tables.arrow_types import plain_table
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.prepare.string_index import find_strings, index_strings
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, STRING_FIELDS
from mmgnn_dist.errors import UserError, WrongInput
from mmgnn_dist.files import atomic_path

BLANK = pa.array(["", "None", "none", "nan", "NaN", "null", "NULL", "<NA>"], pa.large_string())
NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
INCHIKEY_BLOCK = 14  # letters of an InChIKey that encode the connectivity
FLAT = "UHFFFAOYSA"  # second block of a key without stereochemistry and isotopes
MISFITS = (pa.ArrowException, TypeError, ValueError, AttributeError)  # for values of a wrong type or form
KEYS = ("inchikey", "id", "gdb_idx")  # columns to join by
JOINS = ("exact", "first block", "id")
SEPARATOR = pa.scalar("\x1f", pa.large_string())
CLEAN = frozenset((*TEXT_FIELDS, "field_sources"))  # columns of a text table in clean form
SYNONYMS = pa.large_list(pa.large_string())


def clean_text(table: pa.Table, origin: str) -> pa.Table:
    """Convert the text columns of a table to the form of the shards, with nulls where missing.

    Args:
        table: any of `TEXT_COLUMNS`; numbers may be strings, synonyms a list or a JSON list.
        origin: provenance of fields whose origin the table does not give.
    """
    rows = table.num_rows
    input_columns = {
        name: table[name].combine_chunks() for name in table.column_names if name in TEXT_COLUMNS
    }
    columns: dict[str, pa.Array] = {}
    for name in STRING_FIELDS:
        columns[name] = (
            _words(input_columns[name]) if name in input_columns else pa.nulls(rows, pa.large_string())
        )
    for name in CONTEXT_FIELDS:
        columns[name] = (
            _number(input_columns[name]) if name in input_columns else pa.nulls(rows, pa.float32())
        )
    columns["synonyms"] = (
        _synonyms(input_columns["synonyms"]) if "synonyms" in input_columns else pa.nulls(rows, SYNONYMS)
    )
    columns["field_sources"] = _origins(
        columns, input_columns.get("field_sources"), input_columns.get("cid"), origin
    )
    return pa.table(columns)


def text_columns(path: Path) -> tuple[list[str], list[str]]:
    """The columns by which the table of text fields at `path` is joined, and those of its text.

    Raises:
        UserError: unreadable, without a key, without any text field, or with a column of a wrong type.
    """
    if not path.is_file():
        raise UserError(f"no file {path}: --text takes a Parquet file of text fields")
    schema, _ = open_parquet(path)
    keys = [name for name in KEYS if name in schema.names]
    if not keys:
        raise UserError(f"{path} has no column to join by: {', '.join(KEYS)}")
    fields = [name for name in TEXT_COLUMNS if name in schema.names]
    if not set(fields) & set(TEXT_FIELDS):
        raise UserError(f"{path} has no text field: use PubChem's names, {', '.join(TEXT_FIELDS)}")
    check_columns(path, schema, [*keys, *fields])
    return keys, fields


def stage_text(path: Path, to: Path) -> None:
    """Write the table of text fields at `path` in clean form, with its keys, for the workers to map.

    Raises:
        UserError: see `text_columns`; or a damaged table.
    """
    keys, fields = text_columns(path)
    try:
        table = plain_table(pq.read_table(path, columns=[*keys, *fields]))
    except (pa.ArrowException, OSError) as error:
        raise WrongInput(f"{path} is damaged ({one_line(error)}): get it anew") from None
    absent = pa.nulls(table.num_rows, pa.large_string())
    ids = absent
    try:
        if "id" in keys:
            ids = _words(table["id"].combine_chunks())
        elif "gdb_idx" in keys:
            ids = qm9_ids(table["gdb_idx"])
        staged = clean_text(table.select(fields), path.name)
        inchikey = _words(table["inchikey"].combine_chunks()) if "inchikey" in keys else absent
    except MISFITS as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise WrongInput(f"{path} gives no text ({reason}): check the values of its columns") from None
    staged = staged.append_column("key", inchikey).append_column("source_id", ids)
    flat = np.asarray(pc.match_substring(inchikey, FLAT).fill_null(False), dtype=bool)
    indices = (
        index_strings(inchikey),
        index_strings(_blocks(inchikey), first=flat),
        index_strings(ids),
    )
    for name, (hashes, rows) in zip(JOINS, indices, strict=True):
        staged = staged.append_column(f"{name} hash", pa.array(hashes))
        staged = staged.append_column(f"{name} row", pa.array(rows))
    staged = staged.combine_chunks()
    with atomic_path(to) as part, pa.ipc.new_file(str(part), staged.schema) as writer:
        writer.write_table(staged)


def _blocks(keys: pa.Array) -> pa.Array:
    return pc.utf8_slice_codeunits(keys, 0, INCHIKEY_BLOCK)


class TextTable:
    """A staged table of text fields, memory-mapped, with the indices that its look-ups need."""

    def __init__(self, path: Path):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        self.key, self.id = columns["key"], columns["source_id"]
        self.fields = table.select([name for name in table.column_names if name in CLEAN])
        self.index = {
            name: (columns[f"{name} hash"].to_numpy(), columns[f"{name} row"].to_numpy()) for name in JOINS
        }

    def find(self, molecules: Molecules) -> tuple[pa.Array, list[int]]:
        """(table row of each molecule, null without one; number of molecules found by each of `JOINS`)."""
        ways = (
            (molecules.inchikey, self.key.take),
            (_blocks(molecules.inchikey), lambda rows: _blocks(self.key.take(rows))),
            (molecules.id, self.id.take),
        )
        rows_found, counts = pa.nulls(len(molecules), pa.int64()), []
        for name, (keys, strings_of) in zip(JOINS, ways, strict=True):
            candidate = find_strings(keys, *self.index[name], strings_of)
            before = rows_found.null_count
            rows_found = pc.coalesce(rows_found, candidate)
            counts.append(before - rows_found.null_count)
        return rows_found, counts


@lru_cache(maxsize=8)
def open_text_table(path: Path) -> TextTable:
    """The staged table at `path`, opened once per process."""
    return TextTable(path)


def join_tables(molecules: Molecules, base: pa.Table, tables: list[Path]) -> tuple[pa.Table, list[list[int]]]:
    """Lay staged tables over a text.

    Args:
        molecules: whose keys are looked up.
        base: text of these molecules in clean form.
        tables: files of `stage_text`, the most important first.

    Returns:
        The joined text and, for each table, the number of molecules found by each of `JOINS`.
    """
    counts = []
    for path in reversed(tables):
        table = open_text_table(path)
        rows, found_by_join = table.find(molecules)
        base = overlay(base, table.fields.take(rows))
        counts.append(found_by_join)
    return base, counts[::-1]


def overlay(base: pa.Table, over: pa.Table) -> pa.Table:
    """Take each field from `over` if present there, else from `base`; both in clean form, same rows."""
    columns = {}
    for name in base.column_names:
        below, above = base[name].combine_chunks(), over[name].combine_chunks()
        columns[name] = pc.if_else(above.is_valid(), above, below)
    both = pc.and_(base["field_sources"].is_valid(), over["field_sources"].is_valid())
    places = np.flatnonzero(np.asarray(both, dtype=bool))
    if len(places):
        chosen = pa.array(places)
        merged = [
            json.dumps(json.loads(low) | json.loads(high), ensure_ascii=False)
            for low, high in zip(
                base["field_sources"].take(chosen).to_pylist(),
                over["field_sources"].take(chosen).to_pylist(),
                strict=True,
            )
        ]
        columns["field_sources"] = pc.replace_with_mask(
            columns["field_sources"], both.combine_chunks(), pa.array(merged, pa.large_string())
        )
    return pa.table(columns)


def _words(column: pa.Array) -> pa.Array:
    """Trimmed strings, large_string; null where blank."""
    text = strings(column)
    return pc.if_else(pc.is_in(text, value_set=BLANK), None, text)


def _number(column: pa.Array) -> pa.Array:
    """Numbers as float32; null where not finite."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = strings(column)
        column = pc.cast(pc.if_else(pc.match_substring_regex(text, NUMBER), text, None), pa.float64())
    column = pc.cast(column, pa.float32(), safe=False)
    return pc.if_else(pc.is_finite(column), column, None)


def _synonyms(column: pa.Array) -> pa.Array:
    """Lists of non-blank strings; null where empty."""
    blank = set(BLANK.to_pylist())

    def clean(value: list[str | None] | str | None) -> list[str] | None:
        if isinstance(value, str):
            try:
                parsed = json.loads(value) if value.lstrip().startswith("[") else [value]
            except ValueError:
                parsed = [value]
            value = [str(word) for word in parsed if word is not None]
        words = [word.strip() for word in value or [] if word]
        return [word for word in words if word not in blank] or None

    return pa.array([clean(value) for value in column.to_pylist()], SYNONYMS)


def _origins(
    columns: dict[str, pa.Array], given: pa.Array | None, cid: pa.Array | None, origin: str
) -> pa.Array:
    """JSON object {field: origin} of each row; null for a row without text.

    Rows with the same present fields and the same stated origins are resolved once.
    """
    rows = len(columns["synonyms"])
    nothing = pa.nulls(rows, pa.large_string())
    stated = _words(given) if given is not None else nothing
    number = _words(cid) if cid is not None else nothing
    present = np.zeros(rows, np.int64)
    for bit, name in enumerate(TEXT_FIELDS):
        present |= np.asarray(columns[name].is_valid(), dtype=np.int64) << bit
    pattern = pa.array(present).cast(pa.large_string())
    key = pc.binary_join_element_wise(pattern, number.fill_null(""), stated.fill_null(""), SEPARATOR)
    coded = key.dictionary_encode()
    resolved = [_resolve(entry, origin) for entry in coded.dictionary.to_pylist()]
    return pa.array(resolved, pa.large_string()).take(coded.indices)


def _resolve(entry: str, origin: str) -> str | None:
    """The JSON object for one combination of present fields, CID and stated origins."""
    pattern, cid, stated = entry.split(SEPARATOR.as_py(), 2)
    try:
        origins = json.loads(stated) if stated else {}
    except ValueError:
        origins = {}
    if not isinstance(origins, dict):
        origins = {}
    sources = {}
    for bit, name in enumerate(TEXT_FIELDS):
        if int(pattern) >> bit & 1:
            source = str(origins.get(name) or origin)
            sources[name] = f"PubChem CID {cid} ({source})" if cid else source
    return json.dumps(sources, ensure_ascii=False) if sources else None
