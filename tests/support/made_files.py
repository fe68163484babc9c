"""Files of molecules in every form that is read, written from values that the tests know."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np

# dsgdb9nsd_000001.xyz as published
METHANE = """5
gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\
\t-40.47893\t-40.476062\t-40.475117\t-40.498597\t6.469\t
C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689
H\t 0.002150416\t-0.0060313176\t 0.0019761204\t 0.133921
H\t 1.0117308433\t 1.4637511618\t 0.0002765748\t 0.133922
H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923
H\t-0.5238136345\t 1.4379326443\t 0.9063972942\t 0.133923
1341.307\t1341.3284\t1341.365\t1562.6731\t1562.7453\t3038.3205\t3151.6034\t3151.6788\t3151.7078
C\tC\t
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""
QM9_ORDER = (
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
SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F"}


def mathematica(value: float) -> str:
    """A number as QM9's files have it: `6.*^-6`, `0.`, `13.21`."""
    text = repr(float(value))
    if "e" in text:
        mantissa, power = text.split("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.'}*^{int(power)}".replace(".0*", ".*")
    return text.removesuffix("0") if text.endswith(".0") else text


def qm9_text(index: int, z: list[int], pos: np.ndarray, values: dict, smiles: str, inchi: str) -> str:
    """One raw file of QM9."""
    lines = [
        str(len(z)),
        f"gdb {index}\t" + "\t".join(mathematica(values[name]) for name in QM9_ORDER) + "\t",
    ]
    for number, place in zip(z, np.reshape(pos, (-1, 3)), strict=True):
        lines.append("\t".join([SYMBOLS[number], *(mathematica(x) for x in place), "-0.1"]))
    lines += ["100.5\t200.5\t3000.1", f"{smiles}\t{smiles}\t", f"{inchi}\t{inchi}"]
    return "\n".join(lines) + "\n"


def xyz_text(symbols: list[str], pos: np.ndarray, comment: str = "") -> str:
    """One frame."""
    rows = [
        f"{s} {x:.8f} {y:.8f} {w:.8f}" for s, (x, y, w) in zip(symbols, np.reshape(pos, (-1, 3)), strict=True)
    ]
    return "\n".join([str(len(symbols)), comment, *rows]) + "\n"


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """A tar (perhaps compressed) or zip of files, by the suffix of its name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in files.items():
                made.writestr(name, content)
        return path
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".tar": "w"}[path.suffix]
    with tarfile.open(path, mode) as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return path


def packed(path: Path, content: bytes) -> Path:
    """A file, compressed by the suffix of its name."""
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(content))
    return path
