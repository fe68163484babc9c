"""PCQM4Mv2 in its published layout, of any size: an SD archive of the first molecules, `data.csv.gz` of all.

    python tests/support/pcqm_files.py FOLDER TRAIN [VALID [TEST]]

The molecules repeat a few templates, each time moved a little, so that millions are written in minutes.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom

TEMPLATES = (
    "CCO",
    "CCN",
    "c1ccccc1",
    "CC(=O)O",
    "OC1CCCC1",
    "CC#N",
    "c1ccoc1",
    "NCC(=O)O",
    "CCCC",
    "FC(F)CO",
)
MOVED = 0.01  # Å
PLACE = slice(0, 30)


def write_pcqm4mv2(folder: Path, train: int, valid: int = 0, test: int = 0) -> Path:
    """Write the two files; returns the SD archive."""
    folder.mkdir(parents=True, exist_ok=True)
    molecules = [_embedded(smiles) for smiles in TEMPLATES]
    archive = folder / "pcqm4m-v2-train.sdf.tar.gz"
    sizes = [len(_record(block, 0).encode()) for _, block in molecules]
    total = sum(sizes[row % len(sizes)] for row in range(train))
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        info = tarfile.TarInfo("pcqm4m-v2-train.sdf")
        info.size = total
        records = (_record(molecules[row % len(molecules)][1], row).encode() for row in range(train))
        packed.addfile(info, io.BufferedReader(_Chunks(records)))
    with gzip.open(folder / "data.csv.gz", "wt", compresslevel=1) as table:
        table.write("idx,smiles,homolumogap\n")
        for row in range(train + valid + test):
            smiles = molecules[row % len(molecules)][0]
            table.write(f"{row},{smiles},{gap_of(row) if row < train + valid else ''}\n")
    return archive


def gap_of(row: int) -> float:
    """The gap of a molecule, eV."""
    return 4.0 + (row % 1000) / 250


def _embedded(smiles: str) -> tuple[str, str]:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    return smiles, Chem.MolToMolBlock(mol)


def _record(block: str, row: int) -> str:
    """One record of the archive, its atoms moved by a small amount that depends on the row."""
    lines = block.split("\n")
    atoms = int(lines[3][:3])
    shift = MOVED * np.sin(row + np.arange(3 * atoms)).reshape(-1, 3)
    for atom in range(atoms):
        line = lines[4 + atom]
        moved = [float(line[10 * axis : 10 * axis + 10]) + shift[atom, axis] for axis in range(3)]
        lines[4 + atom] = "".join(f"{place:10.4f}" for place in moved) + line[PLACE.stop :]
    return "\n".join(lines) + "$$$$\n"


class _Chunks(io.RawIOBase):
    """An iterator of bytes as a stream."""

    def __init__(self, parts: Iterator[bytes]):
        super().__init__()
        self.parts, self.rest = parts, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self.rest = self.rest or next(self.parts, b"")
        part, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


if __name__ == "__main__":
    print(write_pcqm4mv2(Path(sys.argv[1]), *map(int, sys.argv[2:])))
