"""Figures of the data card: counts, coverage and targets of a file, and physical checks.

OMP_NUM_THREADS=1 python check_sample.py molecules.parquet
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import records
import xtb
from ase import Atoms
from make_sample import read_opsin, usable
from rdkit import Chem, RDLogger
from scipy.spatial.transform import Rotation

# Measured gas-phase Cp at 298.15 K minus R, cal/mol/K, from handbook values.
MEASURED_CV = {"C": 6.54, "O": 6.04, "N": 6.53, "C1CC1": 11.3, "c1ccccc1": 17.7}
REDONE = 60  # molecules of the file whose labels are computed again


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Print a Markdown table."""
    for row in (head, ("---",) * len(head), *rows):
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def summary(data: pa.Table) -> None:
    """Counts, coverage of each field and a summary of each target."""
    heavy = Counter(int((np.array(z) > 1).sum()) for z in data["atomic_numbers"].to_pylist())
    table(("heavy atoms", *sorted(heavy)), [("molecules", *(heavy[size] for size in sorted(heavy)))])
    holding = Counter(symbol for z in data["atomic_numbers"].to_pylist() for symbol in set(z))
    table(("element", *"HCNOF"), [("molecules", *(holding[z] for z in (1, 6, 7, 8, 9)))])
    rows = []
    for name, unit in records.UNITS.items():
        x = data[name].to_numpy().astype(float)
        quartiles = np.percentile(x, [0, 25, 50, 75, 100])
        rows.append((name, unit, f"{x.mean():.3f}", f"{x.std():.3f}", *(f"{q:.3f}" for q in quartiles)))
    table(("target", "unit", "mean", "sd", "min", "25 %", "median", "75 %", "max"), rows)
    text = data.schema.names[data.schema.get_field_index("iupac_name") : -1]
    filled = [(name, data.num_rows - data[name].null_count) for name in text]
    table(("field", "filled", "share"), [(n, c, f"{c / data.num_rows:.1%}") for n, c in filled])
    empty = sum(value == "{}" for value in data["field_sources"].to_pylist())
    print(f"no text at all: {empty} ({empty / data.num_rows:.1%})\n")


def consistency(data: pa.Table) -> Iterator[tuple[str, str]]:
    """(check, outcome) over every molecule of the file."""
    rows = data.to_pylist()
    bad_rules = sum(not usable(Chem.MolFromSmiles(row["smiles"])) for row in rows)
    yield "molecules outside the rules", str(bad_rules)
    blocks = {row["inchikey"].split("-")[0] for row in rows}
    yield "repeated InChIKey first blocks", str(len(rows) - len(blocks))
    wrong = changed = 0
    for row in rows:
        mol = Chem.AddHs(Chem.MolFromSmiles(row["smiles"]))
        wrong += Chem.MolToInchiKey(Chem.MolFromSmiles(row["smiles"])) != row["inchikey"]
        wrong += [atom.GetAtomicNum() for atom in mol.GetAtoms()] != row["atomic_numbers"]
        try:
            xtb.check_bonds(mol, np.array(row["positions"]).reshape(-1, 3))
        except xtb.Dropped:
            changed += 1
    yield "SMILES, InChIKey and atoms disagree", str(wrong)
    yield "bonds of the geometry differ from the SMILES", str(changed)
    named = [row for row in rows if row["iupac_name"]]
    structures = read_opsin([row["iupac_name"] for row in named])
    differ = sum(
        Chem.MolToSmiles(Chem.MolFromSmiles(smiles)) != row["smiles"]
        for smiles, row in zip(structures, named, strict=True)
    )
    yield f"names ({len(named)}) that OPSIN reads as another structure", str(differ)
    gap = np.abs(data["lumo"].to_numpy() - data["homo"].to_numpy() - data["gap"].to_numpy()).max()
    yield "largest abs(lumo - homo - gap)", f"{gap:.1e} eV"


def repeated(data: pa.Table) -> Iterator[tuple[str, str]]:
    """(check, outcome) of labels computed again at stored positions, and of a halved Hessian step."""
    rng = np.random.default_rng(0)
    rows = data.take(rng.choice(data.num_rows, min(REDONE, data.num_rows), replace=False)).to_pylist()
    worst: Counter[str] = Counter()
    for row in rows:
        numbers = np.array(row["atomic_numbers"])
        positions = np.array(row["positions"]).reshape(-1, 3)
        masses = Atoms(numbers).get_masses()
        surface = xtb.Surface(numbers, positions)
        found = xtb.electronic(surface.evaluate(positions))
        worst["force, eV/Å"] = max(worst["force, eV/Å"], np.abs(surface.gradient(positions)).max())
        second = xtb.hessian(surface, positions, xtb.STEP / 2)
        waves, _, rotations = xtb.vibrations(masses, positions, second)
        found["zpve"], found["cv"] = xtb.thermal(waves, rotations)
        for name, value in found.items():
            key = f"{name}, {records.UNITS[name]}"
            worst[key] = max(worst[key], abs(value - row[name]))
    for name, value in worst.items():
        yield f"largest over {len(rows)} molecules, redone with half the Hessian step: {name}", f"{value:.1e}"


def physics() -> Iterator[tuple[str, str]]:
    """(check, outcome) against facts that do not come from this code."""
    water = xtb.label("O", 0)
    yield (
        "water zpve (measured 0.575 eV; half the sum of the fundamentals 0.558 eV)",
        f"{water['zpve']:.4f} eV",
    )
    yield "water mu (measured 1.855 D)", f"{water['mu']:.3f} D"
    for smiles, measured in MEASURED_CV.items():
        yield f"cv of {smiles} (measured {measured})", f"{xtb.label(smiles, 0)['cv']:.2f} cal/mol/K"
    linear = xtb.label("O=C=O", 0)["cv"]
    yield "cv of O=C=O, linear (measured 6.89)", f"{linear:.2f} cal/mol/K"
    mol = Chem.AddHs(Chem.MolFromSmiles("NCC(=O)O"))
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    start = xtb.embed(mol, 0)
    surface = xtb.Surface(numbers, start)
    analytic, numeric, step = surface.gradient(start), np.empty_like(start), 1e-3
    for index in np.ndindex(start.shape):
        shift = np.zeros_like(start)
        shift[index] = step
        ends = [surface.evaluate(start + sign * shift).get("energy") for sign in (1, -1)]
        numeric[index] = (ends[0] - ends[1]) / (2 * step) * xtb.HARTREE
    size = np.abs(analytic).max()
    error = np.abs(analytic - numeric).max()
    yield f"glycine, analytic against numeric gradient (largest {size:.2f} eV/Å)", f"{error:.1e} eV/Å"
    turned = start @ Rotation.random(rng=0).as_matrix().T + 3.0
    before = xtb.electronic(xtb.Surface(numbers, start).evaluate(start))
    after = xtb.electronic(xtb.Surface(numbers, turned).evaluate(turned))
    yield "glycine turned and moved, change of mu", f"{abs(before['mu'] - after['mu']):.1e} D"
    yield "glycine turned and moved, change of energy", f"{abs(before['energy'] - after['energy']):.1e} eV"


def main() -> None:
    """Print the card's tables for one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    RDLogger.DisableLog("rdApp.*")
    data = pq.read_table(path)
    print(f"{data.num_rows} molecules, {path.stat().st_size} bytes\n")
    summary(data)
    table(("check", "outcome"), [*consistency(data), *physics(), *repeated(data)])


if __name__ == "__main__":
    main()
