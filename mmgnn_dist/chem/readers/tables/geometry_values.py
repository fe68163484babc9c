"""Values of geometry columns as flat arrays: elements, coordinates in every layout, padding."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from mmgnn_dist.chem.elements import element_number
from mmgnn_dist.chem.own_targets.values import to_float
from mmgnn_dist.chem.readers.tables.arrow_types import flat, is_list_type, is_text_type, list_sizes

TOKENS = re.compile(r"[\[\]()]|[^\s,;\[\]()'\"]+")  # of a list as JSON, Python or numpy writes it
DEEPEST = 3  # most brackets in one another

Counted = tuple[np.ndarray, np.ndarray]  # flat values, number of values of each molecule


def float_values(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Convert a column to float64, NaN for null; whole numbers beyond 2^53 are rounded."""
    return np.asarray(pc.cast(flat(column), pa.float64(), safe=False).fill_null(np.nan))


def flat_numbers(column: pa.ChunkedArray | pa.Array) -> Counted:
    """Return (flat atomic numbers, 0 where there is no element; count per molecule), int64."""
    lists = flat(column)
    if types.is_null(lists.type):
        return np.zeros(0, np.int64), np.zeros(len(lists), np.int64)
    count = list_sizes(lists)
    values = lists.flatten()
    if is_text_type(values.type):
        words = values.fill_null("").dictionary_encode()
        table = np.array([element_number(word) for word in words.dictionary.to_pylist()], np.int64)
        return (table[words.indices.to_numpy()] if len(table) else np.zeros(0, np.int64)), count
    if types.is_null(values.type):
        return np.zeros(len(values), np.int64), count
    if types.is_floating(values.type):
        raw = float_values(values)
        whole = np.isfinite(raw) & (raw == np.round(raw)) & (np.abs(raw) < 2**31)
        return np.where(whole, raw, 0).astype(np.int64), count
    return np.asarray(values.fill_null(0)).astype(np.int64), count


def unknown_symbols(column: pa.ChunkedArray | pa.Array) -> dict[int, tuple[int, str]]:
    """Return the first word of each molecule that is no element: its atom, counted from 1, and the word."""
    lists = flat(column)
    if not (is_list_type(lists.type) and is_text_type(lists.type.value_type)):
        return {}
    z, count = flat_numbers(lists)
    found: dict[int, tuple[int, str]] = {}
    starts = np.cumsum(count) - count
    words = lists.flatten()
    for place in np.flatnonzero(z == 0).tolist():
        row, word = int(np.searchsorted(starts, place, side="right")) - 1, words[place].as_py() or ""
        if word.strip() not in ("", "0"):
            found.setdefault(row, (place - int(starts[row]) + 1, word))
    return found


def flat_positions(
    column: pa.ChunkedArray | pa.Array, axes_first: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coordinates atom by atom.

    Args:
        column: lists of 3 n coordinates, of n triples, or, with `axes_first`, of three lists of n.
        axes_first: whether the three lists of a molecule are its x, y and z.

    Returns:
        Flat coordinates; count per molecule; whether some position is not a triple.
    """
    lists = flat(column)
    if types.is_null(lists.type):
        return np.zeros(0), np.zeros(len(lists), np.int64), np.zeros(len(lists), bool)
    count = list_sizes(lists)
    ragged = np.zeros(len(count), bool)
    values = lists.flatten()
    inner = None
    if is_list_type(values.type):
        outer, inner = count, list_sizes(values)
        molecule = np.repeat(np.arange(len(outer)), outer)
        count = np.bincount(molecule, weights=inner, minlength=len(outer)).astype(np.int64)
        if axes_first:
            ragged = (outer != 3) | (_largest(molecule, inner, len(outer)) * 3 != count)
        else:
            ragged[molecule[inner != 3]] = True
        values = values.flatten()
    if values.type != pa.float32():
        values = pc.cast(values, pa.float64(), safe=False)
    pos = np.asarray(values.fill_null(np.nan))
    return (_atom_by_atom(pos, count, ragged) if axes_first and inner is not None else pos), count, ragged


def cut_padding(numbers: Counted, positions: Counted) -> tuple[Counted, Counted]:
    """Cut the zeros behind the last atom of each molecule, in its numbers and its coordinates.

    Coordinates behind the last atom are cut where all of them are 0 or NaN; else nothing is cut.
    """
    z, z_count = numbers
    pos, pos_count = positions
    molecule = np.repeat(np.arange(len(z_count)), z_count)
    place = np.arange(len(z)) - np.repeat(np.cumsum(z_count) - z_count, z_count)
    last = np.zeros(len(z_count), np.int64)
    real = z > 0
    np.maximum.at(last, molecule[real], place[real] + 1)
    z_ends, pos_ends = np.cumsum(z_count), np.cumsum(pos_count)
    keep_z, keep_pos = np.ones(len(z), bool), np.ones(len(pos), bool)
    for row in np.flatnonzero((last > 0) & ((last < z_count) | (pos_count > 3 * last))).tolist():
        first = pos_ends[row] - pos_count[row] + min(3 * last[row], pos_count[row])
        rest = pos[first : pos_ends[row]]
        if not np.any((rest != 0) & ~np.isnan(rest)):
            keep_z[z_ends[row] - z_count[row] + last[row] : z_ends[row]] = False
            keep_pos[first : pos_ends[row]] = False
    if keep_z.all() and keep_pos.all():
        return numbers, positions
    atom_rows = np.bincount(molecule[keep_z], minlength=len(z_count))
    axis_rows = np.bincount(np.repeat(np.arange(len(pos_count)), pos_count)[keep_pos], minlength=len(z_count))
    return (z[keep_z], atom_rows), (pos[keep_pos], axis_rows)


def list_of_text(text: str) -> list[Any]:
    """Read a list, perhaps of lists, as JSON, Python or numpy writes it; its items stay text.

    Raises:
        ValueError: the text is no such list.
    """
    stack: list[list[Any]] = [[]]
    for token in TOKENS.findall(text.strip()):
        if token in "[(":
            if len(stack) > DEEPEST or (len(stack) == 1 and stack[0]):
                raise ValueError(f"'{text[:60]}' is no list")
            stack.append([])
        elif token in "])":
            if len(stack) == 1:
                raise ValueError(f"'{text[:60]}' is no list")
            inner = stack.pop()
            stack[-1].append(inner)
        elif len(stack) == 1:
            raise ValueError(f"'{text[:60]}' is no list")
        else:
            stack[-1].append(token)
    if len(stack) > 1 or not stack[0]:
        raise ValueError(f"'{text[:60]}' is no list")
    return list(stack[0][0])


def symbols_of_text(text: str) -> list[str]:
    """Read a list of symbols or atomic numbers.

    Raises:
        ValueError: the text is no such list.
    """
    items = list_of_text(text)
    if not all(isinstance(item, str) for item in items):
        raise ValueError(f"'{text[:60]}' is no list of elements")
    return items


def triples_of_text(text: str) -> list[list[float]]:
    """Read coordinates: a list of lists as it is, a flat list in triples.

    Raises:
        ValueError: the text is no list of coordinates.
    """
    items = list_of_text(text)
    if all(isinstance(item, str) for item in items):
        flat_items = [to_float(item) for item in items]
        return [flat_items[start : start + 3] for start in range(0, len(flat_items), 3)]
    if not all(isinstance(item, list) and all(isinstance(word, str) for word in item) for item in items):
        raise ValueError(f"'{text[:60]}' is no list of coordinates")
    return [[to_float(word) for word in item] for item in items]


def _largest(group: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    largest = np.zeros(n, np.int64)
    np.maximum.at(largest, group, values)
    return largest


def _atom_by_atom(pos: np.ndarray, count: np.ndarray, ragged: np.ndarray) -> np.ndarray:
    """Order coordinates that stand as all x, all y, all z of a molecule atom by atom."""
    starts = np.repeat(np.cumsum(count) - count, count)
    atoms = np.repeat(count // 3, count)
    place = np.arange(len(pos)) - starts
    fits = ~np.repeat(ragged, count)
    ordered = pos.copy()
    axis, atom = place[fits] // atoms[fits], place[fits] % atoms[fits]
    ordered[starts[fits] + 3 * atom + axis] = pos[fits]
    return ordered
