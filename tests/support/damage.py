"""Damaged files of every format, made by seed: what users' disks, programs and enemies do to files.

Of damage that is done to one molecule on purpose (`Made.reasons`) the outcome is known; of bytes that were
cut, flipped or thrown in, only that everything must be accounted for.
"""

from __future__ import annotations

import io
import sqlite3
import tarfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_files import QM9_ORDER, archive, packed, qm9_text, xyz_text

FORMS = ("xyz", "extxyz", "qm9", "V2000", "V3000", "csv", "parquet", "db")
PACKINGS = ("", "", "", ".gz", ".bz2", ".tar", ".tar.gz", ".tar.bz2", ".zip")
ONE = (
    "none",
    "nan",
    "inf",
    "huge",
    "overlap",
    "element",
    "few",
    "many",
    "word",
    "empty molecule",
)
BYTES = (
    "cut",
    "flip",
    "drop",
    "insert",
    "nul",
    "utf-16",
    "cr",
    "bom",
    "long line",
    "empty",
    "blank",
    "half twice",
)
CONTAINER = ("cut", "flip", "bomb", "traversal", "nothing", "other suffix", "strange members", "long member")
# so that the check of units finds no wrong one; the others may be about zero
PHYSICAL = {"alpha": 13.21, "r2": 35.36, "zpve": 0.0447, "cv": 6.469}
SUFFIX = {"V2000": ".sdf", "V3000": ".sdf", "qm9": ".xyz"}
SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 99999: "Qq"}
SMILES = ("C", "O", "N", "CC", "C=O")
METHANE = ("C", "InChI=1S/CH4/h1H4")
IDENTITIES = {  # SMILES and InChI by first symbol and number of atoms
    ("C", 5): METHANE,
    ("O", 3): ("O", "InChI=1S/H2O/h1H2"),
    ("N", 4): ("N", "InChI=1S/H3N/h1H3"),
    ("C", 3): ("O=C=O", "InChI=1S/CO2/c2-1-3"),
    ("C", 8): ("CC", "InChI=1S/C2H6/c1-2/h1-2H3"),
}


@dataclass(frozen=True)
class Made:
    """A file, and what is known of it.

    Attributes:
        path: the file.
        how: what was done to it.
        kept: molecules that must be kept, None where the damage is blind.
        reasons: what the others must be set aside for, any of these.
    """

    path: Path
    how: str
    kept: int | None
    reasons: tuple[str, ...] = ()


def make(seed: int, folder: Path, forms: tuple[str, ...] = FORMS) -> Made:
    """The file of a seed."""
    rng = np.random.default_rng(seed)
    form = str(rng.choice(forms))
    packing = (
        "" if form in ("parquet", "db") else str(rng.choice(PACKINGS[:5] if form == "csv" else PACKINGS))
    )
    level = str(rng.choice(["one", "bytes", "container"] if packing else ["one", "bytes"]))
    how = str(rng.choice({"one": ONE, "bytes": BYTES, "container": CONTAINER}[level]))
    count = int(rng.integers(2, 6))
    one = how if level == "one" else "none"
    stem = f"{seed:05d}-{form}-{how.replace(' ', '_')}"
    path = folder / f"{stem}{SUFFIX.get(form, '.' + form)}{packing}"
    if form in ("parquet", "db"):
        known = _table(path, form, one, count, rng)
    else:
        content, known = _text(form, one, count, rng)
        if level == "bytes":
            content = _bytes(content, how, rng)
        _pack(path, content, packing, how if level == "container" else "", rng)
    if level == "bytes" and form in ("parquet", "db"):
        path.write_bytes(_bytes(path.read_bytes(), how, rng))
    if level == "container" and how in ("cut", "flip"):
        path.write_bytes(_bytes(path.read_bytes(), how, rng))
    label = f"{form}{packing}: {level} {how}"
    return Made(path, label, *known) if level == "one" else Made(path, label, None)


def molecules(
    one: str, count: int, rng: np.random.Generator
) -> tuple[list[tuple[list[int], np.ndarray]], int]:
    """Molecules, the one at the place that is returned damaged."""
    found = [(list(z), pos + rng.normal(scale=0.01, size=pos.shape)) for z, pos in _real()]
    found = [found[k] for k in rng.permutation(len(found))[:count]]
    place = int(rng.integers(count))
    z, pos = found[place]
    atom, axis = int(rng.integers(len(z))), int(rng.integers(3))
    if one in ("nan", "inf", "huge"):
        pos[atom, axis] = {"nan": np.nan, "inf": -np.inf, "huge": 1e7}[one]
    elif one == "overlap":
        pos[atom] = pos[atom - 1] + 0.01
    elif one == "element":
        z[atom] = 99999
    elif one == "empty molecule":
        found[place] = ([], np.zeros((0, 3)))
    return found, place


REASONS = {
    "nan": ("non-finite coordinates", "unreadable record"),
    "inf": ("non-finite coordinates", "unreadable record"),
    "huge": ("huge coordinates", "unreadable record"),
    "overlap": ("overlapping atoms",),
    "element": ("unknown element", "unreadable record"),
    "few": ("unreadable record", "lengths differ"),
    "many": ("unreadable record", "lengths differ"),
    "word": ("unreadable record", "unreadable target"),
    "empty molecule": ("zero atoms", "unreadable record", "invalid SMILES"),
}


@lru_cache
def _real() -> list[tuple[list[int], np.ndarray]]:
    from ase.build import molecule

    return [(m.numbers.tolist(), m.positions) for m in map(molecule, ("CH4", "H2O", "NH3", "CO2", "C2H6"))]


def _text(form: str, one: str, count: int, rng: np.random.Generator) -> tuple[bytes, tuple]:
    if form == "csv":
        return _csv(one, count, rng)
    found, place = molecules(one, count, rng)
    records = []
    base = int(rng.integers(1, 130_000))  # so that ids differ between files
    for number, (z, pos) in enumerate(found, base):
        symbols = [SYMBOLS[k] for k in z]
        if form in ("V2000", "V3000"):
            text = _sd(symbols, pos, form, number)
        elif form == "qm9":
            values = dict.fromkeys(QM9_ORDER, 1e-6 * number) | PHYSICAL
            identity = IDENTITIES.get((*symbols[:1], len(symbols)), METHANE)
            text = qm9_text(number + 1, [], np.zeros(0), values, *identity)
            head, _, tail = text.partition("100.5")
            atoms = "".join(f"{line} -0.1\n" for line in xyz_text(symbols, pos).splitlines()[2:])
            text = f"{len(z)}{head[1:]}{atoms}100.5{tail}"
        else:
            comment = f"energy={-number}.5 id=m{number}" if form == "extxyz" else f"energy={-number}.5"
            text = xyz_text(symbols, pos, comment)
        if number == base + place:
            text = _counts(text, form, one)
        records.append(text)
    expected = (count - (one != "none"), REASONS.get(one, ()))
    return "".join(records).encode(), expected


def _counts(text: str, form: str, one: str) -> str:
    """Damage to the lines of a record: an atom too few or too many, a word for a number."""
    if one not in ("few", "many", "word"):
        return text
    lines = text.splitlines(keepends=True)
    first = {
        "V2000": 4,
        "V3000": next((k for k, line in enumerate(lines) if "BEGIN ATOM" in line), 0) + 1,
    }.get(form, 2)
    if one == "few":
        del lines[first]
    elif one == "many":
        lines.insert(first, lines[first])
    else:
        digit = next(k for k, letter in enumerate(lines[first]) if letter == ".")
        lines[first] = lines[first][:digit] + "?" + lines[first][digit + 1 :]
    return "".join(lines)


def _sd(symbols: list[str], pos: np.ndarray, version: str, number: int) -> str:
    n = len(symbols)
    rows = zip(symbols, np.reshape(pos, (-1, 3)), strict=True)
    if version == "V2000":
        body = [f"{n:3d}  0  0  0  0  0  0  0  0  0999 V2000"]
        body += [
            f"{x:10.4f}{y:10.4f}{w:10.4f} {s:<3} 0  0  0  0  0  0  0  0  0  0  0  0" for s, (x, y, w) in rows
        ]
    else:
        body = ["  0  0  0     0  0            999 V3000", "M  V30 BEGIN CTAB", f"M  V30 COUNTS {n} 0 0 0 0"]
        body.append("M  V30 BEGIN ATOM")
        body += [f"M  V30 {k + 1} {s} {x:.6f} {y:.6f} {w:.6f} 0" for k, (s, (x, y, w)) in enumerate(rows)]
        body += ["M  V30 END ATOM", "M  V30 END CTAB"]
    tail = ["M  END", "> <energy>", f"-{number}.5", "", "$$$$"]
    return "\n".join([f"m{number}", "     made           3D", "", *body, *tail]) + "\n"


def _csv(one: str, count: int, rng: np.random.Generator) -> tuple[bytes, tuple]:
    rows = [[SMILES[k], f"-{k}.5", f"m{k}"] for k in range(count)]
    place = int(rng.integers(count))
    damage = {
        "few": rows[place][:2],
        "many": [*rows[place], "1"],
        "word": [SMILES[place], "word", "m"],
        "element": ["[Qq]", "1", "m"],
        "empty molecule": ["", "1", "m"],
    }
    rows[place] = damage.get(one, rows[place])
    text = "\n".join(["smiles,energy,id", *(",".join(row) for row in rows)]) + "\n"
    reasons = ("invalid SMILES",) if one == "element" else REASONS.get(one, ())
    return text.encode(), (count - (one in damage), reasons)


def _table(path: Path, form: str, one: str, count: int, rng: np.random.Generator) -> tuple:
    found, place = molecules(one, count, rng)
    z = [[k if k < 119 else 0 for k in numbers] for numbers, _ in found]
    flat = [pos.ravel().tolist() for _, pos in found]
    damaged = one not in ("none", "word")
    if one == "few":
        flat[place] = flat[place][:-1]
    if one == "many":
        flat[place] = flat[place] * 2
    if form == "parquet":
        columns = {"atomic_numbers": z, "positions": flat, "energy": [-1.5] * count}
        pq.write_table(pa.table(columns), path, row_group_size=2)
        return count - damaged, REASONS.get(one, ())
    from ase import Atoms
    from ase.db import connect

    with connect(path) as database:
        for numbers, pos in zip(z, [np.reshape(p, (-1, 3)) for _, p in found], strict=True):
            database.write(Atoms(numbers, pos), key_value_pairs={"e": -1.5})
    if one in ("few", "many"):
        with sqlite3.connect(path) as direct:
            direct.execute(
                "UPDATE systems SET positions=? WHERE id=?", (np.array(flat[place]).tobytes(), place + 1)
            )
        direct.close()
    return count - damaged, REASONS.get(one, ())


def _bytes(content: bytes, how: str, rng: np.random.Generator) -> bytes:
    n = max(len(content), 1)
    here, there = sorted(int(k) for k in rng.integers(0, n, 2))
    if how == "cut":
        return content[:here]
    if how == "flip":
        changed = bytearray(content)
        for k in rng.integers(0, n, int(rng.integers(1, 20))):
            changed[k] = int(rng.integers(256))
        return bytes(changed)
    if how == "drop":
        return content[:here] + content[there:]
    if how == "insert":
        return content[:here] + rng.bytes(int(rng.integers(1, 2000))) + content[here:]
    if how == "nul":
        return content[:here] + bytes(there - here) + content[there:]
    if how == "utf-16":
        return content.decode("latin-1").encode("utf-16")
    if how == "cr":
        return content.replace(b"\n", b"\r")
    if how == "bom":
        return b"\xef\xbb\xbf" + content
    if how == "long line":
        return content[:here] + b"7" * 6_000_000 + content[here:]
    if how == "half twice":
        return content[:here] + content[: n // 2] + content[here:]
    return {"empty": b"", "blank": b" \n\t\n\n"}[how]


def _pack(path: Path, content: bytes, packing: str, how: str, rng: np.random.Generator) -> None:
    """Write a text alone or in a container that is as `how` says."""
    if how == "bomb":
        content += b"0" * 8_000_000
    if packing in ("", ".gz", ".bz2"):
        packed(path, content)
        return
    suffix = "".join(path.suffixes[:1])
    names = {
        "traversal": ["../../../../tmp/evil", "/etc/evil", "C:\\evil", "a/\x01/../b", "\udcff", "é" * 150]
    }
    name = str(rng.choice(names.get(how, ["inner", "sub/inner"]))) + suffix
    files = {name.encode("utf-8", "replace").decode(): content, "readme.md": b"nothing"}
    if how == "nothing":
        files = {}
    archive(path, files)
    if how == "other suffix":
        other = {".zip": ".tar", ".tar": ".zip", ".gz": ".bz2", ".bz2": ".gz"}[path.suffix]
        spare = path.with_name("spare" + other)
        archive(spare, files)
        spare.replace(path)
    if how == "strange members":
        _strange(path, content, suffix)
    if how == "long member":
        _lying(path, content, suffix, rng)


def _strange(path: Path, content: bytes, suffix: str) -> None:
    """Members that are no files, and one name twice."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as made:
            made.writestr(zipfile.ZipInfo(f"folder{suffix}/"), b"")
            made.writestr(f"again{suffix}", content)
            made.writestr(f"Again{suffix}", content)
        return
    mode = {".tar": "w", ".gz": "w:gz", ".bz2": "w:bz2"}[path.suffix]
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as made:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"strange{suffix}")
            info.type, info.linkname = kind, "/etc/passwd"
            made.addfile(info)
        for name in ("again", "again", "x" * 300):
            info = tarfile.TarInfo(f"{name}{suffix}")
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))


def _lying(path: Path, content: bytes, suffix: str, rng: np.random.Generator) -> None:
    """A member that claims to be far larger than it is."""
    if path.suffix == ".zip":
        data = bytearray(path.read_bytes())
        place = data.find(b"PK\x01\x02")
        data[place + 24 : place + 28] = int(rng.integers(1 << 31)).to_bytes(4, "little")
        path.write_bytes(data)
        return
    info = tarfile.TarInfo(f"large{suffix}")
    info.size = 8**11 - 1
    raw = info.tobuf(format=tarfile.GNU_FORMAT) + content
    packed(path, raw)
