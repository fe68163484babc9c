"""Made files in the formats of PubChem's Compound/Extras, of any size, and a plain look-up in them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PIECE = 250_000  # rows made at a time
FILES = ("CID-InChI-Key", "CID-IUPAC", "CID-Title", "CID-Mass", "CID-SMILES", "CID-Synonym-filtered")


def make_extras(folder: Path, rows: int, seed: int = 0) -> None:
    """Six files of `rows` CIDs with gaps; one key in 50 has two CIDs, a third of the CIDs have no title."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cid = 0
    for first in range(0, rows, PIECE):
        n = min(PIECE, rows - first)
        cids = cid + np.cumsum(rng.integers(1, 30, n))
        cid = int(cids[-1])
        letters = rng.integers(65, 91, (n, 22), np.uint8)
        again = np.flatnonzero(rng.random(n) < 0.02)
        again = again[again > 0]
        letters[again] = letters[again - 1]
        text = letters.tobytes().decode()
        parts: dict[str, list[str]] = {name: [] for name in FILES}
        kinds = rng.integers(0, 12, n).tolist()
        for row, (number, kind) in enumerate(zip(cids.tolist(), kinds, strict=True)):
            word = text[22 * row : 22 * row + 22]
            key = f"{word[:14]}-{word[14:]}SA-{'N' if kind else 'M'}"
            formula = f"C{kind + 1}H{number % 30}N{kind % 3}O2"
            inchi = f"InChI=1S/{formula}/c1-2-4(6)3-5-{number % 97}/h2-5H,1H3,(H,6,7)"
            parts["CID-InChI-Key"].append(f"{number}\t{inchi}\t{key}\n")
            parts["CID-Mass"].append(f"{number}\t{formula}\t{number % 900}.0578\t{number % 900}.0579\n")
            parts["CID-SMILES"].append(f"{number}\tCC(=O)N{'C' * kind}O\n")
            if kind % 3:
                parts["CID-Title"].append(f"{number}\tTitle of {number}, α-form\n")
            if kind % 4:
                parts["CID-IUPAC"].append(f'{number}\t{kind}-[(2R)-"x"]-name-{number}\n')
            for place in range(max(0, kind - 6)):
                parts["CID-Synonym-filtered"].append(f"{number}\tsynonym {place} of {number}\n")
        for name, lines in parts.items():  # a gzip file may have many members
            with open(folder / f"{name}.gz", "ab") as file:
                file.write(gzip.compress("".join(lines).encode(), compresslevel=1))


def lines_of(folder: Path, name: str) -> Iterator[list[str]]:
    """The fields of each line."""
    with gzip.open(folder / f"{name}.gz", "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")


def plain_look_up(folder: Path, keys: set[str]) -> dict[str, dict]:
    """What the files say of each key, by dictionaries: one row per key that is there."""
    cids: dict[str, list[int]] = {}
    for cid, _, key in lines_of(folder, "CID-InChI-Key"):
        if key in keys:
            cids.setdefault(key, []).append(int(cid))
    wanted = {cid for held in cids.values() for cid in held}
    columns: dict[str, dict[int, list[str]]] = {}
    for name in FILES[1:]:
        column = columns.setdefault(name, {})
        for cid, text, *_ in lines_of(folder, name):
            if int(cid) in wanted:
                column.setdefault(int(cid), []).append(text)

    def first(name: str, cid: int) -> str | None:
        return columns[name].get(cid, [None])[0]

    rows = {}
    for key, held in cids.items():
        names = [columns[name] for name in ("CID-IUPAC", "CID-Title", "CID-Synonym-filtered")]
        cid = next((cid for cid in sorted(held) if any(cid in column for column in names)), min(held))
        rows[key] = {
            "cid": cid,
            "iupac_name": first("CID-IUPAC", cid),
            "title": first("CID-Title", cid),
            "molecular_formula": first("CID-Mass", cid),
            "smiles": first("CID-SMILES", cid),
            "synonyms": columns["CID-Synonym-filtered"].get(cid),
        }
    return rows
