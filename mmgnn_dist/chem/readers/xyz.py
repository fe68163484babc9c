"""One frame of an XYZ file to a molecule: QM9's original form, extended XYZ, plain XYZ.

QM9's form is recognised by its second line (`gdb 1` and 15 numbers); it ends with frequencies, SMILES and
InChI, and its numbers may be in Mathematica's notation (`6.*^-6`). In extended XYZ the second line holds
`key=value` pairs. Coordinates are in Å, unless a key of `LENGTH_KEYS` gives another unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import IO

from mmgnn_dist.chem.checks import NO_ELEMENT, OVERSIZED, PERIODIC, UNREADABLE, BadRecord
from mmgnn_dist.chem.elements import element_number, no_element
from mmgnn_dist.chem.own_targets.values import is_number, to_float
from mmgnn_dist.chem.rdkit_tools import logged
from mmgnn_dist.chem.readers.comment import COMMENT, MAX_COMMENT, pairs, repeated, unread_words
from mmgnn_dist.chem.readers.record import Record
from mmgnn_dist.chem.readers.record_format import RecordFormat
from mmgnn_dist.chem.readers.source import QM9_UNITS
from mmgnn_dist.chem.readers.tables.array_layouts import LENGTHS
from mmgnn_dist.chem.streams.frames import QM9_TAIL, xyz_frames
from mmgnn_dist.errors import need

QM9_SECOND_LINE = re.compile(r"\s*gdb\s+(\d+)\s")
QM9_PROPERTIES = (
    "A",
    "B",
    "C",
    "mu",
    "alpha",
    "homo",
    "lumo",
    "gap",
    "r2",
    "zpve",
    "u0",
    "u298",
    "h298",
    "g298",
    "cv",
)
QM9_COLUMNS = 5  # words of the line of an atom: symbol, position, partial charge
# names of the column of elements in `Properties`, in lower case, by what it holds; of the column of positions
SYMBOL_NAMES = (
    "species",
    "element",
    "elements",
    "symbol",
    "symbols",
    "atomic_symbols",
    "atom_type",
    "atom_types",
    "type",
    "types",
)
NUMBER_NAMES = (
    "z",
    "numbers",
    "atomic_number",
    "atomic_numbers",
    "atomic_num",
    "species",
    "element",
    "elements",
)
POSITION_NAMES = ("pos", "position", "positions", "coord", "coords", "coordinate", "coordinates", "xyz", "r")
FLAGS = {"T", "TRUE", "1"}
# keys, in lower case, that give the unit of the positions; the first two may speak of something else
LENGTH_KEYS = ("units", "unit", "length_unit", "length_units", "pos_unit", "pos_units", "position_units")


class XyzFormat(RecordFormat):
    """XYZ in all its forms."""

    suffixes = (".xyz", ".extxyz")

    def cut(self, stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
        """See `frames.xyz_frames`."""
        return xyz_frames(stream)

    def columns(self, raw: bytes) -> dict[str, str]:
        """Return the values of the comment, or for QM9 its targets, which are always present."""
        comment = second_line(raw)
        if qm9_index(comment) is not None:
            return dict.fromkeys(QM9_UNITS, "0")
        values = comment_values(comment)
        return {key: value for key, value in values.items() if key != length_key(values)}

    def parse(self, raw: bytes, name: str) -> Record:
        """See `parse_xyz`."""
        return parse_xyz(raw, name)

    def is_qm9(self, raw: bytes) -> bool:
        """Whether the second line is one of QM9."""
        return qm9_index(second_line(raw)) is not None

    def own_id(self, raw: bytes, values: Mapping[str, str]) -> str | None:
        """Return the value `id` of the comment, or QM9's name."""
        index = qm9_index(second_line(raw))
        return values.get("id") if index is None else qm9_name(index)

    def remarks(self, raw: bytes) -> Iterator[str]:
        """Yield a remark on words behind the number of atoms, and on each key that stands twice."""
        count = raw.partition(b"\n")[0]
        if words := count.split(None, 1)[1:]:
            shown = words[0].decode("utf-8", "replace").strip()[:40]
            yield f"words behind the number of atoms are not read ('{shown}')"
        comment = second_line(raw)
        values = comment_values(comment)
        if (key := length_key(values)) and LENGTHS.get(values[key].lower(), 1.0) != 1.0:
            yield f"positions are in {values[key].lower()}, as {key} says, and are read as Å"
        for name, both in repeated(comment).items() if "=" in comment else ():
            yield f"{name} stands twice in the comment ({both})"
        if "=" in comment and (unread := unread_words(comment)):
            yield f"words behind a number in the comment are not read ('{unread[:40]}')"

    def describe(self, raw: bytes) -> str:
        """Show the comment, and how to write it."""
        comment = second_line(raw)
        if not comment:
            return "its comments are empty: write key=value there, such as energy=-76.4"
        shown = f"the comment of its first frame is '{comment[:60]}'"
        if COMMENT in pairs(comment):
            return (
                f"{shown}: write energy={comment[:20]} there, or take it by "
                f"data.targets='{{energy: {{column: {COMMENT}, unit: Hartree}}}}'"
            )
        return shown if pairs(comment) else f"{shown}: write key=value there, such as energy=-76.4"


@lru_cache(maxsize=4)  # a record is looked at several times in a row
def second_line(raw: bytes) -> str:
    """Return the comment of a frame, cut to `MAX_COMMENT` bytes."""
    parts = raw.split(b"\n", 2)
    return parts[1][:MAX_COMMENT].decode("utf-8", "replace").strip() if len(parts) > 1 else ""


def qm9_name(index: int) -> str:
    """Return QM9's own name of a molecule from its 1-based index."""
    return f"dsgdb9nsd_{index:06d}"


def comment_values(comment: str) -> dict[str, str]:
    """Return the `key=value` pairs of a comment; a comment without any is the value of `COMMENT`."""
    text = comment.strip()
    return pairs(comment) or ({COMMENT: text} if text else {})


def length_key(values: Mapping[str, str]) -> str | None:
    """Return the key of a comment that gives the unit of the positions, None without one."""
    return next((key for key in values if _is_length(key, values[key])), None)


def _is_length(key: str, value: str) -> bool:
    return key.lower() in LENGTH_KEYS and (value.lower() in LENGTHS or key.lower() not in LENGTH_KEYS[:2])


@lru_cache(maxsize=4)
def qm9_index(comment: str) -> int | None:
    """Return the 1-based QM9 index from a second line in QM9's form, None for any other line."""
    match = QM9_SECOND_LINE.match(comment)
    return int(match[1]) if match and len(comment.split()) == 2 + len(QM9_PROPERTIES) else None


def parse_xyz(raw: bytes, name: str) -> Record:
    """Parse the molecule of one frame.

    Args:
        raw: the frame.
        name: id of the molecule if the frame has none.

    Raises:
        BadRecord: the frame is no molecule.
    """
    lines = raw.decode("utf-8", "replace").split("\n")
    words = lines[0].split(None, 1)
    if not words or not words[0].isdecimal():
        raise BadRecord(UNREADABLE, f"begins with '{lines[0].strip()[:40]}', not a number of atoms")
    count = int(words[0])
    comment = lines[1] if len(lines) > 1 else ""
    if len(comment) > MAX_COMMENT:
        raise BadRecord(OVERSIZED, f"a comment of {len(comment)} characters")
    index = qm9_index(comment)
    while len(lines) > 2 and not lines[-1].strip():
        lines.pop()
    tail = QM9_TAIL if index is not None else 0
    if len(lines) - 2 - tail != count:
        raise BadRecord(
            UNREADABLE, f"{max(len(lines) - 2 - tail, 0)} lines of atoms where {count} are announced"
        )
    if index is not None:
        return _qm9(lines, count, index, comment)
    values = comment_values(comment)
    _refuse_periodic(values)
    properties = next((value for key, value in values.items() if key.lower() == "properties"), "")
    z, pos = _atoms(lines[2 : 2 + count], *_layout(properties))
    if key := length_key(values):
        unit = values.pop(key).lower()
        if unit not in LENGTHS:
            raise BadRecord(UNREADABLE, f"{key}={unit[:20]}: allowed are {', '.join(LENGTHS)}")
        pos = [LENGTHS[unit] * place for place in pos]
    return Record(
        id=values.get("id") or name,
        z=z,
        pos=pos,
        smiles=values.get("smiles"),
        inchikey=values.get("inchikey"),
        values=values,
        conflicts=repeated(comment),
    )


def _qm9(lines: list[str], count: int, index: int, comment: str) -> Record:
    z, pos = _atoms(lines[2 : 2 + count], 0, (1, 2, 3), QM9_COLUMNS)
    values = dict(zip(QM9_PROPERTIES, comment.split()[2:], strict=True))
    smiles, inchi = (line.split() for line in lines[-2:])
    if not smiles or not inchi or not inchi[-1].startswith("InChI="):
        raise BadRecord(UNREADABLE, "no InChI in its last line")
    # there are two of each; the last is that of the relaxed geometry, which the file holds
    values["inchi"] = inchi[-1]
    return Record(
        id=qm9_name(index),
        z=z,
        pos=pos,
        smiles=smiles[-1],
        inchikey=_key_of(inchi[-1]),
        values=values,
    )


def _key_of(inchi: str) -> str | None:
    try:
        from rdkit.Chem.inchi import InchiToInchiKey
    except ImportError:
        raise need("rdkit", "data") from None
    with logged():
        return InchiToInchiKey(inchi) or None


def _refuse_periodic(values: dict[str, str]) -> None:
    """Refuse a periodic frame: one with a cell, unless its `pbc` is F in every direction."""
    lowered = {key.lower(): value for key, value in values.items()}
    if "lattice" not in lowered and "pbc" not in lowered:
        return
    axes = lowered.get("pbc", "T T T").strip("[]{}").replace(",", " ").upper().split()
    if FLAGS & set(axes):
        raise BadRecord(PERIODIC, f"pbc={lowered.get('pbc', 'T T T')}")


def _atoms(
    lines: list[str], species: int, places: tuple[int, int, int], columns: int
) -> tuple[list[int], list[float]]:
    """Return atomic numbers and flat coordinates of the lines of atoms.

    Args:
        lines: one line for each atom.
        species: column of the element.
        places: columns of x, y and z.
        columns: number of words in each line; 0: as many numbers as in the first line, at least.
    """
    z, pos = list[int](), list[float]()
    x, y, w = places
    try:
        for line in lines:
            words = line.split()
            if columns and len(words) != columns:
                raise BadRecord(
                    UNREADABLE,
                    f"atom {len(z) + 1} has {len(words)} columns of {columns}: '{line.strip()[:60]}'",
                )
            z.append(element_number(words[species]))
            pos += (to_float(words[x]), to_float(words[y]), to_float(words[w]))
    except (ValueError, IndexError):
        raise BadRecord(UNREADABLE, f"atom {len(pos) // 3 + 1}: '{line.strip()[:60]}'") from None
    if not columns and len({len(line.split()) for line in lines}) > 1:
        _compare_columns(lines)
    if 0 in z:
        word = lines[z.index(0)].split()[species]
        raise BadRecord(NO_ELEMENT, f"atom {z.index(0) + 1}: {no_element(word)}")
    return z, pos


def _compare_columns(lines: list[str]) -> None:
    """Refuse a frame in which an atom has fewer numbers than another: one of its coordinates may lack."""
    counts = [_numbers(line.split()[1:]) for line in lines]
    if min(counts) < max(counts):
        place = counts.index(min(counts))
        raise BadRecord(
            UNREADABLE,
            f"atom {place + 1} has {min(counts)} numbers where others have {max(counts)}: "
            f"'{lines[place].strip()[:60]}'",
        )


def _numbers(words: list[str]) -> int:
    """Return how many words at the begin are numbers."""
    return next((k for k, word in enumerate(words) if not is_number(word)), len(words))


@lru_cache(maxsize=64)
def _layout(properties: str) -> tuple[int, tuple[int, int, int], int]:
    """Return (column of the element, columns of the position, number of columns, 0 if it is not given)."""
    if not properties:
        return 0, (1, 2, 3), 0
    words = properties.lower().split(":")
    columns, total = dict[tuple[str, str], int](), 0
    for name, kind, size in zip(words[::3], words[1::3], words[2::3], strict=False):
        columns.setdefault((f"{kind}{size}", name), total)
        total += int(size) if size.isdecimal() and len(size) < 4 else 1
    names = [("s1", name) for name in SYMBOL_NAMES] + [("i1", name) for name in NUMBER_NAMES]
    species = next((columns[name] for name in names if name in columns), None)
    first = next((columns["r3", name] for name in POSITION_NAMES if ("r3", name) in columns), None)
    apart = [columns.get(("r1", axis)) for axis in "xyz"]
    places = (first, first + 1, first + 2) if first is not None else tuple(p for p in apart if p is not None)
    if species is None or len(places) != 3:
        raise BadRecord(
            UNREADABLE,
            f"Properties={properties[:60]} names no species:S:1 or no pos:R:3, nor another name of these",
        )
    return species, (places[0], places[1], places[2]), total
