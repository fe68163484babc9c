"""Tables of molecules: with geometry in two columns, or with SMILES, from which conformers are made.

Parquet, CSV and ASE databases all become such tables. A table may carry the reader's verdict on each row in
the columns `FAULT` and `WHY`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.chem.checks import BAD_TARGET, NO_ELEMENT, REASONS, UNREADABLE, BadRecord
from mmgnn_dist.chem.composition import contradictions, stating_columns
from mmgnn_dist.chem.conformers import Embedded, embed_smiles
from mmgnn_dist.chem.elements import no_element
from mmgnn_dist.chem.labels import LabelTable, with_labels
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.own_targets.classes import class_index
from mmgnn_dist.chem.own_targets.target_columns import Found
from mmgnn_dist.chem.own_targets.values import is_missing, target_value
from mmgnn_dist.chem.rdkit_tools import rdkit_version
from mmgnn_dist.chem.readers.source import TEXT_COLUMNS, Source, Spread, one_line
from mmgnn_dist.chem.readers.tables.arrow_types import flat, is_list_type, is_text_type, plain_table
from mmgnn_dist.chem.readers.tables.geometry_values import (
    cut_padding,
    flat_numbers,
    flat_positions,
    float_values,
    symbols_of_text,
    triples_of_text,
    unknown_symbols,
)
from mmgnn_dist.chem.states.charge_spin import Values, smiles_states, state_columns, stated_states
from mmgnn_dist.chem.targets import CLASS, Target
from mmgnn_dist.config import ConformerConfig

FAULT, WHY = "*fault", "*why"  # no file has columns with these names
PORTION = 64  # conformers made in one call

Counted = tuple[np.ndarray, np.ndarray]  # flat values, number of values of each molecule


@dataclass(frozen=True)
class TableSource(Source):
    """A source of tables with columns of atomic numbers and positions, or of SMILES.

    Attributes:
        renamed: (name in the file, known name) of the columns that have another name there.
        axes_first: whether positions are [3][n] instead of [n][3].
        padded: whether zeros behind the atoms are cut.
        conformers: how many geometries are made for a SMILES, and which are kept.
        labels: tables of labels by id.
    """

    renamed: tuple[tuple[str, str], ...] = ()
    axes_first: bool = False
    padded: bool = False
    conformers: ConformerConfig = field(default_factory=ConformerConfig)
    labels: tuple[LabelTable, ...] = ()

    def reading_text(self, text_columns: dict[str, str]) -> Source:
        """Return this source with the user's own text fields that it has; see `Source.reading_text`.

        A column may be given by its name in the file, also where it has a known name of its own here.
        """
        known = dict(self.renamed)
        return super().reading_text(
            {
                field: column if column in self.columns else known.get(column, column)
                for field, column in text_columns.items()
            }
        )

    @property
    def makes_ids(self) -> bool:
        """Whether ids are made from the file's name and the row."""
        return not self.qm9 and "id" not in self.columns

    def content(self) -> list[Any]:
        """Return the values that identify the content; conformers also depend on the version of RDKit."""
        return [*super().content(), *([rdkit_version()] if self.embeds else [])]

    def convert(self, table: pa.Table, start: int, order: list[str], spread: Spread = map) -> Molecules:
        """Convert rows to molecules."""
        table = self.known(table)
        if self.labels:
            table = with_labels(self.labels, table, self.ids(table, start).to_pylist())
        n = table.num_rows
        row = np.arange(start, start + n)
        fault, why = _verdicts(table)
        y = np.full((n, len(order)), np.nan)
        for column, target, factor in self.targets:
            if target.kind == CLASS:
                y[:, order.index(target.name)] = _classes(column, table[column], target, fault, why)
                continue
            y[:, order.index(target.name)] = _numbers(column, target, factor, table[column], fault, why)
        inchikey = optional(table, "inchikey")
        embeds = "positions" not in table.column_names
        smiles = strings(table["smiles"]).to_pylist() if embeds else []
        stated = stated_states(
            _state_values(table, self.targets), smiles_states(smiles), self.spin_is_2s, fault, why
        )
        ids, notes = self.ids(table, start), [""] * n
        if not embeds:
            (z, z_count), (pos, pos_count), ragged = self._geometry(table, fault, why)
        else:
            make = partial(make_conformers, wanted=self.conformers)
            made = _conformers(smiles, fault, why, make, spread)
            inchikey = pc.coalesce(inchikey, pa.array([one.inchikey or None for one in made], inchikey.type))
            if self.conformers.several:
                ids = _numbered(ids, [len(one.positions) for one in made])
            origin = np.repeat(np.arange(n), [len(one.positions) for one in made])
            table, inchikey = table.take(pa.array(origin)), inchikey.take(pa.array(origin))
            row, y, fault, why = row[origin], y[origin], fault[origin], [why[k] for k in origin.tolist()]
            stated = stated.keep(origin)
            z, z_count = _joined([made[k].z for k in origin.tolist()], np.int64)
            pos, pos_count = _joined([pos for one in made for pos in one.positions], np.float64)
            ragged = np.zeros(len(origin), bool)
            notes = [": ".join(filter(None, (made[k].note, made[k].why))) for k in origin.tolist()]
        contradictions(z, z_count, _identities(table, embeds), fault, why)
        if self.qm9 and "uncharacterized" in self.columns:
            excluded = np.asarray(flat(table["uncharacterized"]).fill_null(False), dtype=bool)
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
            stated=stated,
            note=pa.array([note or None for note in notes], pa.large_string()),
        )

    def known(self, table: pa.Table) -> pa.Table:
        """Return a table of the file with known names and plain types."""
        names = dict(self.renamed)
        return plain_table(table.rename_columns([names.get(name, name) for name in table.column_names]))

    def _geometry(
        self, table: pa.Table, fault: np.ndarray, why: list[str | None]
    ) -> tuple[Counted, Counted, np.ndarray]:
        """Return atomic numbers, coordinates, and which molecules have positions that are no triples."""
        elements, places = table["atomic_numbers"], table["positions"]
        if is_text_type(elements.type):
            elements = _lists_of_text(elements, symbols_of_text, "atomic_numbers", fault, why)
        if is_text_type(places.type):
            places = _lists_of_text(places, triples_of_text, "positions", fault, why)
        numbers = flat_numbers(elements)
        for row, (atom, word) in unknown_symbols(elements).items():
            if not fault[row]:
                fault[row], why[row] = REASONS.index(NO_ELEMENT), f"atom {atom}: {no_element(word)}"
        pos, pos_count, ragged = flat_positions(places, self.axes_first)
        if not self.padded:
            return numbers, (pos, pos_count), ragged
        return *cut_padding(numbers, (pos, pos_count)), ragged

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
    values = flat(column)
    if pa.types.is_floating(values.type):
        raw = float_values(values)
        whole = np.isfinite(raw) & (raw == np.round(raw)) & (np.abs(raw) < 2**53)
        digits = pa.array(np.where(whole, raw, 0).astype(np.int64)).cast(pa.large_string())
        text = pc.if_else(pa.array(whole), digits, pc.cast(values, pa.large_string()))
        return pc.if_else(pa.array(np.isnan(raw)), None, text)
    return pc.utf8_trim_whitespace(pc.cast(values, pa.large_string()))


def optional(table: pa.Table, name: str) -> pa.Array:
    """Return a column of strings, null where blank or absent."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.large_string())
    values = strings(table[name])
    return pc.if_else(pc.equal(values, ""), None, values)


def make_conformers(smiles: tuple[str, ...], wanted: ConformerConfig) -> list[Embedded | BadRecord]:
    """Return the geometries of each molecule, or its fault if there are none."""
    made: list[Embedded | BadRecord] = []
    for text in smiles:
        try:
            made.append(embed_smiles(text, wanted))
        except BadRecord as error:
            made.append(error)
    return made


def _conformers(
    smiles: list[str | None],
    fault: np.ndarray,
    why: list[str | None],
    make: Callable[[tuple[str, ...]], list[Embedded | BadRecord]],
    spread: Spread,
) -> list[Embedded]:
    """Make the geometries of the rows that have no fault yet; record new faults."""
    rows = np.flatnonzero(fault == 0).tolist()
    geometries = [Embedded([], [np.zeros(0)], "")] * len(smiles)
    chosen = [smiles[row] or "" for row in rows]
    portions = [tuple(chosen[first : first + PORTION]) for first in range(0, len(chosen), PORTION)]
    results = (geometry for portion in spread(make, portions) for geometry in portion)
    for row, geometry in zip(rows, results, strict=True):
        if isinstance(geometry, BadRecord):
            fault[row], why[row] = REASONS.index(geometry.reason), geometry.detail[:200]
        else:
            geometries[row] = geometry
    return geometries


def _numbered(ids: pa.Array, counts: list[int]) -> pa.Array:
    """Repeat each id for the conformers of its molecule: id-1, id-2, ..."""
    names = [
        None if name is None else f"{name}-{number + 1}"
        for name, count in zip(ids.to_pylist(), counts, strict=True)
        for number in range(count)
    ]
    return pa.array(names, ids.type)


def _joined(parts: list[Any], kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Return (all parts concatenated, length of each part)."""
    flat = np.concatenate([np.zeros(0, kind), *(np.asarray(part, kind) for part in parts)])
    return flat, np.array([len(part) for part in parts], np.int64)


def _verdicts(table: pa.Table) -> tuple[np.ndarray, list[str | None]]:
    """Return the reader's verdict on each row, and its description."""
    if FAULT not in table.column_names:
        return np.zeros(table.num_rows, np.int8), [None] * table.num_rows
    return np.array(table[FAULT].to_pylist(), np.int8), table[WHY].to_pylist()


def _identities(table: pa.Table, embeds: bool) -> dict[str, pa.Array]:
    """Return the columns that state which atoms a molecule has; SMILES do not where the atoms are theirs."""
    names = stating_columns(name for name in table.column_names if is_text_type(table[name].type))
    return {kind: optional(table, name) for kind, name in names.items() if not (embeds and kind == "SMILES")}


def _state_values(table: pa.Table, targets: Found) -> dict[str, Values]:
    """Return the columns of charge and multiplicity; lists are left out, for they are values of atoms."""
    columns: dict[str, Values] = {}
    for name in state_columns(table.column_names, targets):
        kind = table.schema.field(name).type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            columns[name] = float_values(table[name])
        elif not pa.types.is_nested(kind):
            columns[name] = strings(table[name]).to_pylist()
    return columns


def _lists_of_text(
    column: pa.ChunkedArray,
    read: Callable[[str], list[Any]],
    name: str,
    fault: np.ndarray,
    why: list[str | None],
) -> pa.Array:
    """Return lists that stand as text; text that is no list is recorded as a fault, and an empty list."""
    lists: list[list[Any]] = []
    for row, text in enumerate(strings(column).to_pylist()):
        items: list[Any] = []
        if text and not fault[row]:
            try:
                items = read(text)
            except ValueError as error:
                fault[row], why[row] = REASONS.index(UNREADABLE), f"{name}: {one_line(error)}"
        lists.append(items)
    text_items = read is symbols_of_text
    return pa.array(lists, pa.large_list(pa.large_string() if text_items else pa.large_list(pa.float64())))


def _classes(
    name: str, column: pa.ChunkedArray, target: Target, fault: np.ndarray, why: list[str | None]
) -> np.ndarray:
    """Return the number of each label's class; a label that is none of the classes is recorded as a fault."""
    values = np.full(len(column), np.nan)
    for row, label in enumerate(column.to_pylist()):
        try:
            values[row] = class_index(label, target.classes) if not fault[row] else np.nan
        except ValueError:
            fault[row], why[row] = REASONS.index(BAD_TARGET), f"{name}: '{str(label)[:60]}'"
    return values


def _numbers(
    name: str,
    target: Target,
    factor: float,
    column: pa.ChunkedArray,
    fault: np.ndarray,
    why: list[str | None],
) -> np.ndarray:
    """Return a column in the unit of its target; text that is no number is recorded as a fault."""
    if not (is_text_type(column.type) or is_list_type(column.type)):
        return float_values(column) * factor
    values = np.full(len(column), np.nan)
    texts = strings(column) if is_text_type(column.type) else column
    for row, value in enumerate(texts.to_pylist()):
        text = value if value is None or isinstance(value, str) else repr(value)
        if text is not None and not is_missing(text) and not fault[row]:
            try:
                values[row] = target_value(name, text, target, factor)
            except BadRecord as error:
                fault[row], why[row] = REASONS.index(error.reason), error.detail
    return values
