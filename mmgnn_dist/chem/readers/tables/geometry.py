"""Which columns of a table hold the geometry, under which names and in which layout, for a whole file.

Other common names than `positions` and `atomic_numbers` are read and told. Conformers are made from SMILES
only where no other column looks like a geometry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import types

from mmgnn_dist.chem.rdkit_tools import chem, logged
from mmgnn_dist.chem.readers.source import printable
from mmgnn_dist.chem.readers.tables.arrow_types import (
    flat,
    is_list_type,
    is_number_type,
    is_text_type,
    list_sizes,
    plain_type,
)
from mmgnn_dist.chem.readers.tables.geometry_values import (
    cut_padding,
    flat_numbers,
    flat_positions,
    list_of_text,
)
from mmgnn_dist.errors import UserError

# names of the same two columns in public data sets, in lower case, the usual ones first
POSITION_NAMES = ("positions", "pos", "coordinates", "coords", "coord", "xyz", "r", "cartesian_coordinates")
NUMBER_NAMES = (
    "atomic_numbers",
    "atomic_number",
    "atomicnumbers",
    "z",
    "numbers",
    "nuclear_charges",
    "symbols",
    "elements",
    "species",
    "atoms",
    "charges",
)
LOOKED_AT = 64  # rows in which a geometry is looked for
XYZ_LINE = re.compile(r"^\s*[A-Z][a-z]?(\s+-?\d+\.\d*){3}\s*$", re.MULTILINE)
MOL_END = "M  END"
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w.])")
FEWEST = 6  # numbers of a text that may be coordinates

Read = Callable[
    [list[str]], Iterator[pa.Table]
]  # yields the rows of some columns in plain form, from the start


@dataclass(frozen=True)
class GeometryLayout:
    """How a table holds its geometries.

    Attributes:
        positions: name of the column of coordinates, Å; None if there are no geometries.
        numbers: name of the column of atomic numbers or symbols; None if there are no geometries.
        axes_first: whether positions are [3][n] instead of [n][3].
        padded: whether zeros follow the atoms of smaller molecules.
        notes: lines that tell the user.
    """

    positions: str | None = None
    numbers: str | None = None
    axes_first: bool = False
    padded: bool = False
    notes: tuple[str, ...] = ()

    def known_columns(self) -> dict[str, str]:
        """Return the known name of each of its two columns, by the name in the file."""
        if self.positions is None or self.numbers is None:
            return {}
        return {self.positions: "positions", self.numbers: "atomic_numbers"}


def find_geometry(path: Path, schema: pa.Schema, smiles: str | None, read: Read) -> GeometryLayout:
    """Find the geometry of a table.

    Args:
        path: path of the file, for messages.
        schema: names and types of its columns.
        smiles: name of the column of SMILES, None if there is none.
        read: reads some columns from the start of the file.

    Raises:
        UserError: no geometry and no SMILES; positions without elements; a column that looks like a geometry
            and cannot be read as one; positions as [n][3] in some rows and as [3][n] in others.
    """
    kinds = {field.name: plain_type(field.type) for field in schema}
    positions, others = _positions_column(path, kinds)
    if positions is None:
        if smiles is None:
            raise UserError(_absent(path, kinds))
        _refuse_suspects(path, kinds, smiles, read)
        return GeometryLayout(notes=_unused_elements(path, kinds))
    numbers = _numbers_column(kinds, read)
    if numbers is None:
        raise UserError(
            f"{path} has positions ('{positions}') and no column atomic_numbers (lists of atomic numbers or "
            f"symbols): add it; its columns are {_shown(kinds)}"
        )
    notes = []
    if (positions, numbers) != ("positions", "atomic_numbers"):
        notes.append(f"{path.name}: geometries are read from '{positions}' (Å) and '{numbers}' (elements)")
    if others:
        notes.append(f"{path.name}: '{positions}' is the geometry, not read: {_quoted(others)}")
    if not (_holds_numbers(kinds[positions]) and _holds_elements(kinds[numbers])):
        return GeometryLayout(positions, numbers)  # the check of types refuses it
    axes_first, padded = _layout(path, positions, numbers, kinds[positions], read)
    if axes_first:
        notes.append(f"{path.name}: '{positions}' is [3][n], all x, all y, all z: read as such")
    if padded:
        notes.append(f"{path.name}: zeros behind the atoms of '{numbers}' and '{positions}' are cut")
    return GeometryLayout(positions, numbers, axes_first, padded, tuple(notes))


def _positions_column(path: Path, kinds: dict[str, pa.DataType]) -> tuple[str | None, list[str]]:
    """Return the column of positions, and others that could be meant."""
    named = [name for name in kinds if name.lower() in POSITION_NAMES and _holds_numbers(kinds[name])]
    if "positions" in kinds and not types.is_null(kinds["positions"]):
        return "positions", [name for name in named if name != "positions"]
    if len(named) > 1:
        raise UserError(f"{path}: {_quoted(named)} all look like positions: call the right one 'positions'")
    return (named[0] if named else None), []


def _numbers_column(kinds: dict[str, pa.DataType], read: Read) -> str | None:
    if "atomic_numbers" in kinds and not types.is_null(kinds["atomic_numbers"]):
        return "atomic_numbers"
    for known in NUMBER_NAMES:
        for name, kind in kinds.items():
            fits = name.lower() == known and _holds_elements(kind)
            if fits and (known != "charges" or _are_nuclear(name, next(read([name]), None))):
                return name
    return None


def _are_nuclear(name: str, table: pa.Table | None) -> bool:
    """Whether charges are those of nuclei: whole numbers from 1 on, and perhaps zeros behind them."""
    if table is None:
        return False
    z, count = flat_numbers(table[name])
    (z, count), _ = cut_padding((z, count), (np.zeros(0), np.zeros(len(count), np.int64)))
    return bool(len(z)) and bool((z >= 1).all())


def _layout(path: Path, positions: str, numbers: str, kind: pa.DataType, read: Read) -> tuple[bool, bool]:
    """Return (whether positions are [3][n], whether arrays are padded).

    Only molecules of other than three atoms tell [n][3] from [3][n]; the first rows that have one decide.
    """
    first, axes_first = None, False
    for table in read([positions, numbers]):
        first = table if first is None else first
        if not is_list_type(kind.value_type):
            break
        found = _layouts(flat(table[positions]), list_sizes(flat(table[numbers])))
        if len(found) > 1:
            raise UserError(
                f"{path}: '{positions}' is [n][3] in some rows and [3][n] in others: write all as [n][3]"
            )
        if found:
            axes_first = found == {"axes"}
            break
    if first is None:
        return False, False
    z, z_count = flat_numbers(first[numbers])
    pos, pos_count, _ = flat_positions(first[positions], axes_first)
    (cut_z, _), (cut_pos, _) = cut_padding((z, z_count), (pos, pos_count))
    return axes_first, len(cut_z) < len(z) or len(cut_pos) < len(pos)


def _layouts(lists: pa.Array, atoms: np.ndarray) -> set[str]:
    """Return what nested positions show: `atoms` for [n][3], `axes` for [3][n].

    Args:
        lists: positions of each molecule.
        atoms: number of atoms of each molecule, int64 [rows].
    """
    outer, inner = list_sizes(lists), list_sizes(lists.flatten())
    molecule = np.repeat(np.arange(len(outer)), outer)
    least, most = np.full(len(outer), np.iinfo(np.int64).max), np.zeros(len(outer), np.int64)
    np.minimum.at(least, molecule, inner)
    np.maximum.at(most, molecule, inner)
    even = (outer > 0) & (least == most) & (most > 0)
    found = {"atoms"} if np.any(even & (most == 3) & (outer != 3) & (outer >= atoms)) else set()
    return found | ({"axes"} if np.any(even & (outer == 3) & (most != 3) & (most >= atoms)) else set())


def _refuse_suspects(path: Path, kinds: dict[str, pa.DataType], smiles: str, read: Read) -> None:
    """Refuse a table of SMILES with a column that looks like a geometry.

    Raises:
        UserError: there is such a column; the message names it.
    """
    names = [name for name, kind in kinds.items() if _may_hold_geometry(kind)]
    axes = {name.lower(): name for name, kind in kinds.items() if name.lower() in ("x", "y", "z")}
    found = {}
    if len(axes) == 3 and all(_is_axis(kinds[name]) for name in axes.values()):
        found = dict.fromkeys(axes.values(), "coordinates")
    table = next(read(list(dict.fromkeys([smiles, *names]))), None)
    if table is not None:
        table = table.slice(0, LOOKED_AT)
        atoms = _atom_counts(flat(table[smiles]).to_pylist())
        for name in names:
            why = _looks_like(name, kinds[name], flat(table[name]), atoms) if name != smiles else ""
            found |= {name: why} if why else {}
    if found:
        why = next(iter(found.values()))
        raise UserError(
            f"{path}: what looks like a geometry would not be read ({_quoted(list(found))}: {why}), and "
            f"conformers made from '{smiles}' instead: call it positions (lists of triples, Å) beside "
            "atomic_numbers (lists), or remove it"
        )


def _looks_like(name: str, kind: pa.DataType, values: pa.Array, atoms: list[set[int]]) -> str:
    """Return why a column looks like a geometry, or ""."""
    if is_list_type(kind):
        if _has_axes(kind.value_type):
            return "lists of x, y, z"
        if not _holds_numbers(kind):
            return ""
        sizes = flat_positions(values)[1]
        matched = [
            int(size) in {3 * n for n in counts} for size, counts in zip(sizes, atoms, strict=True) if counts
        ]
        if name.lower() in POSITION_NAMES or (matched and all(matched)):
            return "coordinates of all atoms"
        return ""
    if _has_axes(kind):
        return "fields x, y, z"
    if not is_text_type(kind):
        return "bytes" if name.lower() in POSITION_NAMES else ""
    texts = values.to_pylist()
    for text in filter(None, texts):
        if MOL_END in text or len(XYZ_LINE.findall(text)) > 1:
            return "a file of a molecule in each row"
        if name.lower() in POSITION_NAMES and _is_nested_list(text):
            return "a list as text"
    pairs = [(text, counts) for text, counts in zip(texts, atoms, strict=True) if text and counts]
    if pairs and all(_has_coordinates(text, counts) for text, counts in pairs):
        return "coordinates of all atoms as text"
    return ""


def _has_coordinates(text: str, counts: set[int]) -> bool:
    """Whether a text has as many numbers as the atoms have coordinates, with or without atomic numbers."""
    found = NUMBER.findall(text)
    several = len(found) >= FEWEST and 2 * sum("." in number for number in found) >= len(found)
    return several and len(found) in {size * count for count in counts for size in (3, 4)}


def _is_nested_list(text: str) -> bool:
    try:
        return bool(list_of_text(text))
    except ValueError:
        return False


def _atom_counts(smiles: list[str | None]) -> list[set[int]]:
    """Return the numbers of atoms of each SMILES, with and without hydrogens; empty if it is no SMILES."""
    rdkit = chem()
    counts = []
    with logged():
        for text in smiles:
            mol = rdkit.MolFromSmiles(text) if text and text.isascii() else None
            whole = {mol.GetNumAtoms(), rdkit.AddHs(mol).GetNumAtoms()} if mol is not None else set()
            counts.append(whole - {0})
    return counts


def _may_hold_geometry(kind: pa.DataType) -> bool:
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return is_list_type(kind) or is_text_type(kind) or types.is_struct(kind) or binary


def _is_axis(kind: pa.DataType) -> bool:
    return is_number_type(kind) or (is_list_type(kind) and is_number_type(kind.value_type))


def _has_axes(kind: pa.DataType) -> bool:
    return types.is_struct(kind) and {"x", "y", "z"} <= {
        kind.field(k).name.lower() for k in range(kind.num_fields)
    }


def _holds_numbers(kind: pa.DataType) -> bool:
    """Whether a type is lists of numbers, or lists of lists of numbers."""
    if not is_list_type(kind):
        return False
    inner = kind.value_type
    return is_number_type(inner) or (is_list_type(inner) and is_number_type(inner.value_type))


def _holds_elements(kind: pa.DataType) -> bool:
    return is_list_type(kind) and (is_number_type(kind.value_type) or is_text_type(kind.value_type))


def _unused_elements(path: Path, kinds: dict[str, pa.DataType]) -> tuple[str, ...]:
    """Return a note where a table of SMILES has lists of elements and no positions."""
    unused = [name for name in kinds if name.lower() in NUMBER_NAMES and _holds_elements(kinds[name])]
    if not unused:
        return ()
    return (f"{path.name}: no positions, so conformers are made from SMILES; not read: {_quoted(unused)}",)


def _absent(path: Path, kinds: dict[str, pa.DataType]) -> str:
    absent = [name for name in ("atomic_numbers", "positions") if name not in kinds]
    if not kinds:
        return f"{path} holds no table: its first line has to name columns, smiles among them"
    likely = [name for name in kinds if "smi" in name.lower()]
    if likely:
        return (
            f"{path} has no column smiles: rename '{printable(likely[0])[:60]}' to smiles if it holds the "
            f"structures; its columns are {_shown(kinds)}"
        )
    return (
        f"{path} has no column {' and no column '.join(absent)}: molecules need atomic_numbers (list) and "
        f"positions (list, Å), or smiles; its columns are {_shown(kinds)}"
    )


def _shown(names: dict[str, pa.DataType]) -> str:
    return printable(", ".join(names))[:200] or "none"


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{printable(name)[:60]}'" for name in names)
