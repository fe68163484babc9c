"""One frame of an XYZ file to a molecule: QM9's original form, extended XYZ, plain XYZ.

QM9's form is recognised by its second line (`gdb 1` and 15 numbers); it ends with frequencies, SMILES and
InChI, and its numbers may be in Mathematica's notation (`6.*^-6`). In extended XYZ the second line holds
`key=value` pairs. Coordinates are in Å in all forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from mmgnn_dist.chem.checks import OVERSIZED, PERIODIC, UNREADABLE, BadRecord
from mmgnn_dist.chem.elements import NUMBERS
from mmgnn_dist.chem.rdkit_tools import logged
from mmgnn_dist.chem.readers.frames import QM9_TAIL, xyz_frames
from mmgnn_dist.chem.readers.record import Record, to_float
from mmgnn_dist.chem.readers.record_format import RecordFormat
from mmgnn_dist.chem.readers.source import QM9_UNITS
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
MAX_COMMENT = 1 << 16
# a key begins a word: a search from every character would take quadratic time on a long comment
PAIR = re.compile(
    r"""(?<![^\s,])([^\s=,"'{}\[\]]+)\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|\{[^{}]*\}|\[[^\[\]]*\]|[^\s"'{}\[\]]+)"""
)
PLAIN = "species:S:1:pos:R:3"
FLAGS = {"T", "TRUE", "1"}
COMMENT = "comment"  # column of a second line without `key=value` pairs


class XyzFormat(RecordFormat):
    """XYZ in all its forms."""

    suffixes = (".xyz", ".extxyz")

    def cut(self, stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
        """See `frames.xyz_frames`."""
        return xyz_frames(stream)

    def columns(self, raw: bytes) -> dict[str, str]:
        """Return the `key=value` pairs of the comment, or for QM9 its targets, which are always present."""
        comment = second_line(raw)
        return comment_values(comment) if qm9_index(comment) is None else dict.fromkeys(QM9_UNITS, "0")

    def parse(self, raw: bytes, name: str) -> Record:
        """See `parse_xyz`."""
        return parse_xyz(raw, name)

    def is_qm9(self, raw: bytes) -> bool:
        """Whether the second line is one of QM9."""
        return qm9_index(second_line(raw)) is not None


def second_line(raw: bytes) -> str:
    """Return the comment of a frame, cut to `MAX_COMMENT` bytes."""
    parts = raw.split(b"\n", 2)
    return parts[1][:MAX_COMMENT].decode("utf-8", "replace").strip() if len(parts) > 1 else ""


def pairs(comment: str) -> dict[str, str]:
    """Return the `key=value` pairs of a comment, without quotes."""
    return {key: value[1:-1] if value[0] in "\"'" else value for key, value in PAIR.findall(comment)}


def comment_values(comment: str) -> dict[str, str]:
    """Return the `key=value` pairs of a comment; a comment without any is the value of `COMMENT`."""
    text = comment.strip()
    return pairs(comment) or ({COMMENT: text} if text else {})


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
    lines = raw.decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].strip().isdecimal():
        raise BadRecord(
            UNREADABLE, f"begins with '{lines[0].strip()[:40] if lines else ''}', not a number of atoms"
        )
    count = int(lines[0])
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
    z, pos = _atoms(lines[2 : 2 + count], values.get("Properties", PLAIN))
    return Record(
        id=values.get("id") or name,
        z=z,
        pos=pos,
        smiles=values.get("smiles"),
        inchikey=values.get("inchikey"),
        values=values,
    )


def element(text: str) -> int:
    """Return the atomic number of a symbol or number, 0 if it is neither."""
    if text.isdecimal():
        return int(text) if len(text) <= 3 else 0
    return NUMBERS.get(text) or NUMBERS.get(text.capitalize(), 0)


def _qm9(lines: list[str], count: int, index: int, comment: str) -> Record:
    z, pos = _atoms(lines[2 : 2 + count], PLAIN)
    values = dict(zip(QM9_PROPERTIES, comment.split()[2:], strict=True))
    smiles, inchi = (line.split() for line in lines[-2:])
    if not smiles or not inchi or not inchi[-1].startswith("InChI="):
        raise BadRecord(UNREADABLE, "no InChI in its last line")
    # there are two of each; the last is that of the relaxed geometry, which the file holds
    return Record(
        id=f"dsgdb9nsd_{index:06d}",
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
    if "Lattice" not in values and "pbc" not in values:
        return
    axes = values.get("pbc", "T T T").strip("[]{}").replace(",", " ").upper().split()
    if FLAGS & set(axes):
        raise BadRecord(PERIODIC, f"pbc={values.get('pbc', 'T T T')}")


def _atoms(lines: list[str], properties: str) -> tuple[list[int], list[float]]:
    """Return atomic numbers and flat coordinates of the lines of atoms."""
    species, first = _columns(properties)
    z, pos = [], []
    try:
        for line in lines:
            words = line.split()
            z.append(element(words[species]))
            pos += [to_float(word) for word in (words[first], words[first + 1], words[first + 2])]
    except (ValueError, IndexError):
        raise BadRecord(UNREADABLE, f"atom {len(pos) // 3 + 1}: '{line.strip()[:60]}'") from None
    return z, pos


def _columns(properties: str) -> tuple[int, int]:
    """Return (column of the element, first column of the position)."""
    if properties == PLAIN:
        return 0, 1
    words = properties.split(":")
    columns, position = dict[str, int](), 0
    for name, size in zip(words[::3], words[2::3], strict=False):
        columns[name.lower()] = position
        position += int(size) if size.isdecimal() and len(size) < 4 else 1
    species = columns.get("species", columns.get("z", columns.get("numbers")))
    if species is None or "pos" not in columns:
        raise BadRecord(UNREADABLE, f"Properties={properties[:60]} names no species and pos")
    return species, columns["pos"]
