"""HDF5 and npz files of molecules (SPICE, ANI-1x, rMD17, MD17 and files of the same forms).

All conformers of a group without SMILES have ids `GROUP#NUMBER`; splits keep them together. A group that
cannot be read is set aside with all its conformers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import DAMAGED, REASONS
from mmgnn_dist.chem.elements import element_number
from mmgnn_dist.chem.own_targets.target_columns import Found, declared_columns, other_units, resolve_targets
from mmgnn_dist.chem.readers.source import TEXT_COLUMNS, one_line, printable
from mmgnn_dist.chem.readers.table import FAULT, WHY, TableSource
from mmgnn_dist.chem.readers.tables.array_files import Arrays, Hdf5Groups, NpzGroups, array_texts, open_arrays
from mmgnn_dist.chem.readers.tables.array_layouts import (
    LENGTHS,
    ArrayLayout,
    PublishedLayout,
    array_layout,
    is_scalar_column,
    is_text_column,
    published_layout,
    stored_unit,
)
from mmgnn_dist.chem.targets import TARGETS, is_unit, target_for
from mmgnn_dist.config import Declared
from mmgnn_dist.errors import UserError

BROKEN_ARRAYS = (OSError, ValueError, KeyError, RuntimeError, TypeError, IndexError)
LOOKED_AT_GROUPS = 100  # groups whose arrays are the columns of the file


@dataclass(frozen=True)
class ArraySource(TableSource):
    """A file of arrays.

    Attributes:
        groups: names of its groups, in order.
        ends: rows up to the end of each group, int64 [groups].
        length: unit of its positions, Å.
    """

    groups: tuple[str, ...] = ()
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    length: float = 1.0

    @property
    def numbers_conformers(self) -> bool:
        """Whether ids name the conformers of one molecule or formula, `GROUP#NUMBER`."""
        return "smiles" not in self.columns and len(self.groups) < self.rows

    @property
    def text_names(self) -> list[str]:
        """Arrays that are read as text, beside the SMILES."""
        wanted = dict.fromkeys((*TEXT_COLUMNS, *(column for _, column in self.own_text)))
        return [name for name in wanted if name in self.columns and name != "smiles"]

    def stream(self, start: int) -> ArrayStream:
        """Open a stream at row `start`."""
        return ArrayStream(self, start)

    def ids(self, table: pa.Table, start: int) -> pa.Array:
        """Return the id of each row."""
        return table["id"].combine_chunks()


class ArrayStream:
    """Rows of a file of arrays, group by group."""

    def __init__(self, source: ArraySource, start: int):
        self.source, self.position = source, start
        self._file = open_arrays(source.path)
        self._offsets = lru_cache(maxsize=1)(self._atoms_before)

    def read(self, rows: int) -> pa.Table:
        """Read the next `rows` rows; those of a group that cannot be read are marked."""
        parts, end = [], self.position + rows
        while self.position < end:
            group = int(np.searchsorted(self.source.ends, self.position, side="right"))
            first = int(self.source.ends[group - 1]) if group else 0
            stop = min(end, int(self.source.ends[group]))
            parts.append(self._rows(self.source.groups[group], self.position - first, stop - first))
            self.position = stop
        return pa.concat_tables(parts)

    def _rows(self, group: str, start: int, stop: int) -> pa.Table:
        name = f"{self.source.name}/{group}" if group else self.source.name
        count = stop - start
        columns: dict[str, Any] = {
            "id": pa.array([f"{name}#{row}" for row in range(start, stop)], pa.large_string()),
            "atomic_numbers": pa.array([[]] * count, pa.large_list(pa.int64())),
            "positions": pa.array([[]] * count, pa.large_list(pa.float64())),
            "smiles": pa.nulls(count, pa.large_string()),
            FAULT: pa.array(np.zeros(count, np.int8)),
            WHY: pa.nulls(count, pa.large_string()),
            **{name: pa.nulls(count, pa.large_string()) for name in self.source.text_names},
            **{column: pa.nulls(count, pa.float64()) for column, _, _ in self.source.targets},
        }
        try:
            columns |= self._values(self._file.arrays(group), group, start, stop)
        except BROKEN_ARRAYS as error:
            columns[FAULT] = pa.array(np.full(count, REASONS.index(DAMAGED), np.int8))
            columns[WHY] = pa.array([one_line(error)] * count, pa.large_string())
        return pa.table(columns)

    def _values(self, arrays: Arrays, group: str, start: int, stop: int) -> dict[str, Any]:
        """Return the columns of some rows of a group."""
        layout = array_layout(arrays)
        if layout is None:
            raise ValueError("it holds no molecules as arrays")
        count = stop - start
        columns: dict[str, Any] = {}
        if layout.form == "packed":
            before = self._offsets(group)
            first, last = int(before[start]), int(before[stop])
            numbers, sizes = _elements(arrays[layout.numbers][first:last]), np.diff(before[start : stop + 1])
            pos, pos_sizes = np.asarray(arrays[layout.positions][first:last], np.float64), 3 * sizes
        elif layout.form == "padded":
            numbers = _elements(arrays[layout.numbers][start:stop])
            pos = np.asarray(arrays[layout.positions][start:stop], np.float64)
            sizes, pos_sizes = np.full(count, pos.shape[1]), np.full(count, pos[0].size)
        else:
            numbers = np.tile(_elements(arrays[layout.numbers][:]), count)
            place = arrays[layout.positions]
            pos = np.asarray(place[:] if layout.form == "single" else place[start:stop], np.float64)
            sizes, pos_sizes = np.full(count, len(numbers) // count), np.full(count, pos.size // count)
        columns["atomic_numbers"] = _lists(numbers.ravel(), sizes)
        columns["positions"] = _lists(pos.ravel() * self.source.length, pos_sizes)
        if "smiles" in arrays:
            texts = _texts(arrays["smiles"], layout.rows(arrays), start, stop)
            columns["smiles"] = pa.array(texts, pa.large_string())
        for name in self.source.text_names:
            if name in arrays:
                texts = _value_texts(arrays[name], layout.rows(arrays), start, stop)
                columns[name] = pa.array(texts, pa.large_string())
        for column, _, _ in self.source.targets:
            if column in arrays and is_scalar_column(arrays[column], layout.rows(arrays)):
                values = np.asarray(_scalars(arrays[column], start, stop), np.float64)
                columns[column] = pa.array(values)
        return columns

    def _atoms_before(self, group: str) -> np.ndarray:
        """Return the number of atoms before each row of a packed group, and all of them, int64 [rows + 1]."""
        arrays = self._file.arrays(group)
        layout = array_layout(arrays)
        counts = np.asarray(arrays[layout.counts][:], np.int64) if layout else np.zeros(0, np.int64)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def inspect_arrays(path: Path, name: str, declared: Declared) -> ArraySource:
    """Recognise a file of arrays.

    Raises:
        UserError: unreadable, or without molecules in a known form; also see `readers.find_sources`.
    """
    try:
        file = open_arrays(path)
        groups, rows, unread, layouts = _groups(file)
        if not groups:
            shown = printable(", ".join(unread[0][1]) if unread else "nothing")[:200]
            raise UserError(
                f"{path} holds no molecules as arrays: a group needs positions [molecules, atoms, 3] and "
                f"atomic_numbers [atoms] or [molecules, atoms], as SPICE, ANI-1x "
                f"and rMD17 have; found: {shown}"
            )
        arrays = file.arrays(groups[0])
        published, layout = published_layout(arrays), layouts[0]
        length = _length(path, arrays, layout, published)
        kinds = _columns(file, groups, layouts)
        found = _energy(arrays, published, declared)
        stated = {name: unit for name, kind in kinds if not kind and (unit := stored_unit(arrays, name))}
        wanted = declared_columns(declared)
        given: Declared = {
            name: unit
            for name, unit in stated.items()
            if name in TARGETS and name not in wanted and is_unit(name, unit)
        }
        targets, ignored = resolve_targets(path, kinds, given | declared, {column for column, _, _ in found})
    except BROKEN_ARRAYS as error:
        raise UserError(f"{path} is no readable file of arrays ({one_line(error)}): get it anew") from None
    notes = _notes(path, published, layout, found, unread)
    notes += tuple(f"{path.name}: {printable(line)}" for line in other_units(stated, declared))
    return ArraySource(
        path,
        name,
        int(rows.sum()),
        tuple(column for column, _ in kinds) + (("smiles",) if "smiles" in arrays else ()),
        False,
        (*found, *targets),
        ignored,
        notes=notes,
        padded=any(each.form == "padded" for each in layouts),
        groups=tuple(groups),
        ends=np.cumsum(rows),
        length=length,
    )


def _groups(
    file: Hdf5Groups | NpzGroups,
) -> tuple[list[str], np.ndarray, list[tuple[str, list[str]]], list[ArrayLayout]]:
    """Return names and rows of the groups of molecules, the other groups with arrays, the first layouts."""
    groups, rows, layouts = [], [], list[ArrayLayout]()
    unread = list[tuple[str, list[str]]]()
    for group, arrays in file.walk():
        layout = array_layout(arrays)
        if layout is None:
            unread.append((group, [f"{key} {list(array.shape)}" for key, array in arrays.items()]))
        elif count := layout.rows(arrays):
            groups.append(group)
            rows.append(count)
            layouts += [layout] if len(layouts) < LOOKED_AT_GROUPS else []
    return groups, np.array(rows, np.int64), unread, layouts


def _columns(
    file: Hdf5Groups | NpzGroups, groups: list[str], layouts: list[ArrayLayout]
) -> list[tuple[str, str]]:
    """Return (name, "" for numbers) of the arrays with one value a molecule, in the first groups.

    SMILES are not among them.
    """
    kinds: dict[str, str] = {}
    for group, layout in zip(groups, layouts, strict=False):
        arrays = file.arrays(group)
        rows = layout.rows(arrays)
        own = {layout.positions, layout.numbers, layout.counts}
        others = {key: array for key, array in arrays.items() if key not in own}
        kinds |= {key: "" for key, array in others.items() if is_scalar_column(array, rows)}
        for key, array in others.items():
            if key != "smiles" and is_text_column(array, rows):
                kinds.setdefault(key, "text")
    return sorted(kinds.items())


def _length(path: Path, arrays: Arrays, layout: ArrayLayout, published: PublishedLayout | None) -> float:
    """Return the unit of positions, Å.

    Raises:
        UserError: the file gives a unit that is not known.
    """
    unit = stored_unit(arrays, layout.positions)
    if unit and unit.lower() not in LENGTHS:
        raise UserError(
            f"{path}: '{layout.positions}' is in '{printable(unit)[:40]}', "
            "and positions are read in Ang, Bohr or nm"
        )
    return LENGTHS[unit.lower()] if unit else published.length if published else 1.0


def _energy(arrays: Arrays, published: PublishedLayout | None, declared: Declared) -> Found:
    """Return the energy of a published layout as the target `energy`, unless the recipe gives its unit."""
    if published is None or published.energy.lower() in declared_columns(declared):
        return ()
    unit = stored_unit(arrays, published.energy) or published.unit
    return ((published.energy, *target_for("energy", unit)),)


def _notes(
    path: Path,
    published: PublishedLayout | None,
    layout: ArrayLayout,
    found: Found,
    unread: list[tuple[str, list[str]]],
) -> tuple[str, ...]:
    """Return what the user should know about a file."""
    if published:
        notes = [f"{path.name} has the layout of {published.name}"]
        notes[0] += "".join(f": '{column}' is read as {target.name}" for column, target, _ in found)
    else:
        notes = [f"{path.name}: geometries are read from '{layout.positions}' and '{layout.numbers}'"]
    if unread:
        shown = printable(unread[0][0])[:60] or "the outermost"
        notes.append(
            f"{path.name}: {len(unread)} groups of arrays hold no molecules and are not read ({shown})"
        )
    return tuple(notes)


def _elements(values: Any) -> np.ndarray:
    """Return atomic numbers from numbers or symbols, 0 where there is no element."""
    array = np.asarray(values)
    if array.dtype.kind in "iuf":
        return array.astype(np.int64)
    return np.array([element_number(word) for word in array_texts(array)], np.int64).reshape(array.shape)


def _texts(array: Any, rows: int, start: int, stop: int) -> list[str | None]:
    """Return the text of each row: one for each, or one for all, perhaps letter by letter as in ANI-1."""
    values = array_texts(array[()] if not array.shape else array[:])
    return list(values[start:stop]) if len(values) == rows else ["".join(values)] * (stop - start)


def _scalars(array: Any, start: int, stop: int) -> np.ndarray:
    """Return the numbers of some rows."""
    return np.asarray(array[start:stop] if array.shape else [array[()]]).ravel()


def _value_texts(array: Any, rows: int, start: int, stop: int) -> list[str | None]:
    """Return what an array says of some rows, as text; None if it has no value for each row."""
    if is_scalar_column(array, rows):
        return [str(value) for value in _scalars(array, start, stop).tolist()]
    return _texts(array, rows, start, stop) if is_text_column(array, rows) else [None] * (stop - start)


def _lists(values: np.ndarray, sizes: np.ndarray) -> pa.Array:
    """Return flat values as lists of the given sizes."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
