"""Tables of molecules: with geometry in two columns, or with SMILES, from which conformers are made.

Parquet, CSV and ASE databases all become such tables. A table may carry the reader's verdict on each row in
the columns `FAULT` and `WHY`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.chem.checks import BAD_TARGET, REASONS, BadRecord
from mmgnn_dist.chem.conformers import conformer
from mmgnn_dist.chem.elements import NUMBERS
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.rdkit_tools import rdkit_version
from mmgnn_dist.chem.readers.record import MISSING, to_float
from mmgnn_dist.chem.readers.source import TEXT_COLUMNS, Source, Spread

FAULT, WHY = "*fault", "*why"  # no file has columns with these names
PORTION = 64  # conformers made in one call

Geometry = tuple[list[int], Any, str] | tuple[str, str]  # as `conformer` returns it, or reason and detail


@dataclass(frozen=True)
class TableSource(Source):
    """A source of tables with columns of atomic numbers and positions, or of SMILES."""

    @property
    def embeds(self) -> bool:
        """Whether its geometries are made from SMILES."""
        return False

    @property
    def makes_ids(self) -> bool:
        """Whether ids are made from the file's name and the row."""
        return not self.qm9 and "id" not in self.columns

    def content(self) -> list[Any]:
        """Return the values that identify the content; conformers also depend on the version of RDKit."""
        return [*super().content(), *([rdkit_version()] if self.embeds else [])]

    def convert(self, table: pa.Table, start: int, order: list[str], spread: Spread = map) -> Molecules:
        """Convert rows to molecules."""
        n = table.num_rows
        row = np.arange(start, start + n)
        fault, why = _verdicts(table)
        y = np.full((n, len(order)), np.nan)
        for column, target, factor in self.targets:
            values = numbers(_parsed(column, table[column], fault, why)) * factor
            y[:, order.index(target.name)] = values
        inchikey = optional(table, "inchikey")
        if "positions" in table.column_names:
            z, z_count = _atomic_numbers(table["atomic_numbers"])
            pos, pos_count, ragged = _positions(table["positions"])
        else:
            geometries = _conformers(strings(table["smiles"]).to_pylist(), fault, why, spread)
            z, z_count = _joined([geometry[0] for geometry in geometries], np.int64)
            pos, pos_count = _joined([geometry[1] for geometry in geometries], np.float64)
            ragged = np.zeros(n, bool)
            inchikey = pc.coalesce(
                inchikey, pa.array([key or None for _, _, key in geometries], inchikey.type)
            )
        ids = self.ids(table, start)
        if self.qm9 and "uncharacterized" in self.columns:
            excluded = np.asarray(_flat(table["uncharacterized"]).fill_null(False), dtype=bool)
        else:
            excluded = self.is_excluded(ids)
        columns = {name: table[name] for name in TEXT_COLUMNS if name in self.columns}
        columns |= {field: table[column] for field, column in self.own_text}
        return Molecules(
            source=self.name,
            row=row,
            id=ids,
            smiles=optional(table, "smiles"),
            inchikey=inchikey,
            z=z,
            z_count=z_count,
            pos=pos,
            pos_count=pos_count,
            ragged=ragged,
            y=y,
            excluded=excluded,
            fault=fault,
            why=pa.array(why, pa.large_string()),
            text=pa.table(columns) if columns else table.select([]),
        )

    def ids(self, table: pa.Table, start: int) -> pa.Array:
        """Return the id of each row."""
        made_ids = prefixed(f"{self.name}-", strings(pa.array(np.arange(start, start + table.num_rows))))
        if self.makes_ids:
            return made_ids
        if self.qm9:
            ids = qm9_ids(table["gdb_idx"] if "gdb_idx" in self.columns else table["mol_id"])
        else:
            ids = strings(table["id"])
        # a row that could not be read has no id
        return pc.coalesce(ids, made_ids) if FAULT in table.column_names else ids


def qm9_ids(column: pa.ChunkedArray) -> pa.Array:
    """Return QM9's own names of molecules, `dsgdb9nsd_000001`, from the 1-based index or from `gdb_1`."""
    digits = pc.utf8_lpad(pc.replace_substring_regex(strings(column), "^gdb_", ""), 6, "0")
    return prefixed("dsgdb9nsd_", digits)


def prefixed(prefix: str, column: pa.Array) -> pa.Array:
    """Put `prefix` before every string of a large_string column; null stays null."""
    return pc.binary_join_element_wise(pa.scalar(prefix, column.type), column, pa.scalar("", column.type))


def strings(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Convert a column of strings or numbers to large_string, without blanks at the ends; NaN becomes null.

    Whole numbers are written without a fraction, also if a null in the column has turned them into floats.
    """
    values = _flat(column)
    if pa.types.is_floating(values.type):
        raw = numbers(values)
        whole = np.isfinite(raw) & (raw == np.round(raw)) & (np.abs(raw) < 2**53)
        digits = pa.array(np.where(whole, raw, 0).astype(np.int64)).cast(pa.large_string())
        text = pc.if_else(pa.array(whole), digits, pc.cast(values, pa.large_string()))
        return pc.if_else(pa.array(np.isnan(raw)), None, text)
    return pc.utf8_trim_whitespace(pc.cast(values, pa.large_string()))


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def optional(table: pa.Table, name: str) -> pa.Array:
    """Return a column of strings, null where blank or absent."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.large_string())
    values = strings(table[name])
    return pc.if_else(pc.equal(values, ""), None, values)


def numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Convert a column to float64, NaN for null; whole numbers beyond 2^53 are rounded."""
    return np.asarray(pc.cast(_flat(column), pa.float64(), safe=False).fill_null(np.nan))


def _atomic_numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return (flat atomic numbers, 0 where there is no element; count per molecule)."""
    lists = _flat(column)
    count = np.asarray(pc.list_value_length(lists).fill_null(0), dtype=np.int64)
    values = lists.flatten()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        table = pa.array(list(NUMBERS), values.type)
        index = pc.index_in(values, value_set=table)  # symbols are in the order of atomic numbers, from 1
        return np.asarray(pc.add(index, 1).fill_null(0), dtype=np.int64), count
    if pa.types.is_floating(values.type):
        raw = numbers(values)
        whole = np.isfinite(raw) & (raw == np.round(raw)) & (np.abs(raw) < 2**31)
        return np.where(whole, raw, 0).astype(np.int64), count
    return np.asarray(values.fill_null(0)).astype(np.int64), count


def _positions(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (flat coordinates; count per molecule; whether some position is not a triple)."""
    lists = _flat(column)
    count = np.asarray(pc.list_value_length(lists).fill_null(0), dtype=np.int64)
    ragged = np.zeros(len(count), bool)
    values = lists.flatten()
    if (
        pa.types.is_list(values.type)
        or pa.types.is_large_list(values.type)
        or (pa.types.is_fixed_size_list(values.type))
    ):
        inner = np.asarray(pc.list_value_length(values).fill_null(0), dtype=np.int64)
        atom_of = np.repeat(np.arange(len(count)), count)
        count = np.bincount(atom_of, weights=inner, minlength=len(count)).astype(np.int64)
        ragged[atom_of[inner != 3]] = True
        values = values.flatten()
    if values.type != pa.float32():
        values = pc.cast(values, pa.float64(), safe=False)
    return np.asarray(values.fill_null(np.nan)), count, ragged


def make_conformers(smiles: tuple[str, ...]) -> list[Geometry]:
    """Return the geometry of each molecule, or reason and detail if there is none."""
    geometries: list[Geometry] = []
    for text in smiles:
        try:
            geometries.append(conformer(text))
        except BadRecord as error:
            geometries.append((error.reason, error.detail))
    return geometries


def _conformers(
    smiles: list[str | None], fault: np.ndarray, why: list[str | None], spread: Spread
) -> list[tuple[Any, Any, str]]:
    """Make the geometries of the rows that have no fault yet; record new faults."""
    rows = np.flatnonzero(fault == 0).tolist()
    geometries: list[tuple[Any, Any, str]] = [((), (), "")] * len(smiles)
    chosen = [smiles[row] or "" for row in rows]
    portions = [tuple(chosen[first : first + PORTION]) for first in range(0, len(chosen), PORTION)]
    results = (geometry for portion in spread(make_conformers, portions) for geometry in portion)
    for row, geometry in zip(rows, results, strict=True):
        if len(geometry) == 2:
            fault[row], why[row] = REASONS.index(geometry[0]), geometry[1][:200]
        else:
            geometries[row] = geometry
    return geometries


def _joined(parts: list[Any], kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Return (all parts concatenated, length of each part)."""
    flat = np.concatenate([np.zeros(0, kind), *(np.asarray(part, kind) for part in parts)])
    return flat, np.array([len(part) for part in parts], np.int64)


def _verdicts(table: pa.Table) -> tuple[np.ndarray, list[str | None]]:
    """Return the reader's verdict on each row, and its description."""
    if FAULT not in table.column_names:
        return np.zeros(table.num_rows, np.int8), [None] * table.num_rows
    return np.array(table[FAULT].to_pylist(), np.int8), table[WHY].to_pylist()


def _parsed(
    name: str, column: pa.ChunkedArray, fault: np.ndarray, why: list[str | None]
) -> pa.Array | pa.ChunkedArray:
    """Return a column of numbers; text that is no number is recorded as a fault."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    values: list[float | None] = []
    for row, text in enumerate(strings(column).to_pylist()):
        value = None
        if text is not None and text.lower() not in MISSING and not fault[row]:
            try:
                value = to_float(text)
            except ValueError:
                fault[row], why[row] = REASONS.index(BAD_TARGET), f"{name}: '{text[:60]}'"
        values.append(value)
    return pa.array(values, pa.float64())
