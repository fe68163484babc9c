"""Charge and multiplicity in every format that can hold them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_files import xyz_text

from mmgnn_dist.chem.checks import REASONS, check_molecules, detail
from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.chem.states.electronic_state import settle

WATER = ["O", "H", "H"], np.array([[0.0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]])
Z, POS = [8, 1, 1], WATER[1].ravel().tolist()


def read(path, units=None):
    """(charge, multiplicity) of each molecule of a file, or the reason why it is set aside; its source."""
    [source] = find_sources([str(path)], units or {}, labelled=False)
    names = [target.name for _, target, _ in source.targets]
    molecules = source.convert(source.stream(0).read(source.rows), 0, names)
    states = settle(molecules.stated, molecules.z, molecules.z_count, molecules.smiles)
    verdict = check_molecules(molecules)
    pairs = zip(states.charge.tolist(), states.multiplicity.tolist(), strict=True)
    for row in np.flatnonzero(verdict).tolist():
        assert detail(molecules, row, REASONS[verdict[row]])
    return [REASONS[bad] or pair for bad, pair in zip(verdict.tolist(), pairs, strict=True)], source


def frames(tmp_path, *comments):
    path = tmp_path / "mine.extxyz"
    path.write_text("".join(xyz_text(*WATER, comment) for comment in comments))
    return path


def test_extended_xyz(tmp_path):
    found, source = read(
        frames(
            tmp_path,
            "id=a",
            "id=b charge=1 multiplicity=2",
            "id=c Total_Charge=-1.0 spin_multiplicity=2",
            "id=d CHARGE=+1",
            "id=e charge=nan multiplicity=3",
            "id=f charge=x",
            "id=g charge=1 total_charge=2",
            "id=h charge=0.3",
            "id=i charge=1 multiplicity=1",
        )
    )
    faults = ["invalid charge"] * 3 + ["invalid multiplicity"]
    assert found == [(0, 1), (1, 2), (-1, 2), (1, 2), (0, 3), *faults]
    assert source.ignored == ()
    assert source.notes == ()


@pytest.mark.parametrize(
    ("spins", "expected", "meaning"),
    [
        # charges 0, 1, -1
        ([1, 2, 2], [(0, 1), (1, 2), (-1, 2)], "the multiplicity"),
        ([0, 1, 1], [(0, 1), (1, 2), (-1, 2)], "2S, the number"),
        ([3, 4, 1], [(0, 3), (1, 4), "invalid multiplicity"], "the multiplicity"),
        ([2, 1, 2], [(0, 3), (1, 2), "invalid multiplicity"], "2S, the number"),
    ],
)
def test_the_meaning_of_spin_follows_from_the_electrons(tmp_path, spins, expected, meaning):
    comments = [f"charge={charge} spin={spin}" for charge, spin in zip((0, 1, -1), spins, strict=True)]
    found, source = read(frames(tmp_path, *comments))
    assert found == expected
    assert [note for note in source.notes if meaning in note]


def test_a_declared_target_is_no_charge(tmp_path):
    found, source = read(frames(tmp_path, "charge=0.4"), {"charge": "D"})
    assert found == [(0, 1)] and [column for column, _, _ in source.targets] == ["charge"]


@pytest.mark.parametrize(
    "kind",
    [pa.int64(), pa.float32(), pa.decimal128(5, 2), pa.large_string(), pa.dictionary(pa.int8(), pa.string())],
)
def test_parquet(tmp_path, kind):
    numeric = pa.types.is_primitive(kind) or pa.types.is_decimal(kind)
    table = {
        "atomic_numbers": [Z] * 3,
        "positions": [POS] * 3,
        "Charge": pa.array([0, 1, None] if numeric else ["0", "1", ""], kind),
        "multiplicity": [1, 2, 3],
        "charges": [[0.0, 0.1, 0.2]] * 3,
    }
    pq.write_table(pa.table(table), tmp_path / "mine.parquet")
    assert read(tmp_path / "mine.parquet")[0] == [(0, 1), (1, 2), (0, 3)]


def test_charges_of_atoms_are_no_charge_of_the_molecule(tmp_path):
    table = {"atomic_numbers": [Z], "positions": [POS], "charge": [[-0.6, 0.3, 0.3]]}
    pq.write_table(pa.table(table), tmp_path / "mine.parquet")
    assert read(tmp_path / "mine.parquet")[0] == [(0, 1)]


def test_csv_of_smiles(tmp_path):
    lines = ["smiles,charge", "O,", "[NH4+],", "[NH4+],1", "[NH4+],0", "CC(=O)[O-],-1"]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    found, _ = read(tmp_path / "mine.csv")
    assert found == [(0, 1), (1, 1), (1, 1), "charge contradicts structure", (-1, 1)]


BLOCK = """{title}
  made          3D

{atoms:3d}  0  0  0  0  0  0  0  0  0999 V2000
{lines}
{properties}M  END
{fields}$$$$
"""


def block(symbols, pos, properties="", fields=""):
    lines = [f"{x:10.4f}{y:10.4f}{z:10.4f} {s:<3} 0  0" for s, (x, y, z) in zip(symbols, pos, strict=True)]
    return BLOCK.format(
        title="m", atoms=len(symbols), lines="\n".join(lines), properties=properties, fields=fields
    )


def test_mol_blocks(tmp_path):
    methylene = ["C", "H", "H"], WATER[1]
    records = [
        block(*WATER),
        block(*WATER, "M  CHG  1   1   1\nM  RAD  1   1   2\n"),
        block(*WATER, "M  CHG  1   1  -1\n"),
        block(*methylene, "M  RAD  1   1   3\n"),
        block(*methylene, "M  RAD  1   1   1\n"),
        block(*WATER, "M  CHG  1   1   1\n", "> <charge>\n0\n\n"),
        block(*WATER, "", "> <PUBCHEM_TOTAL_CHARGE>\n0\n\n"),
    ]
    records = [text.replace("m\n", f"m{number}\n", 1) for number, text in enumerate(records)]
    (tmp_path / "mine.sdf").write_text("".join(records))
    contradiction = "charge contradicts structure"
    expected = [(0, 1), (1, 2), (-1, 2), (0, 3), (0, 1), contradiction, (0, 1)]
    assert read(tmp_path / "mine.sdf")[0] == expected


def test_ase_databases(tmp_path):
    from ase import Atoms
    from ase.db import connect

    def atoms(**values):
        return Atoms(*WATER, **values)

    with connect(tmp_path / "mine.db") as database:
        database.write(atoms())
        database.write(atoms(), charge=1, spin_multiplicity=2)
        database.write(atoms(charges=[1.02, 0, 0]))
        database.write(atoms(charges=[-0.6, -0.2, -0.2]), data={"total_charge": -1})
        database.write(atoms(charges=[0.4, 0, 0]))
        database.write(atoms(magmoms=[1.5, 0.5, 0.01]))
        database.write(atoms(magmoms=[1, 0, 0]))  # a first guess that ten electrons cannot have
        database.write(atoms(magmoms=[1, 0, 0], charges=[1, 0, 0]))
    found, _ = read(tmp_path / "mine.db")
    assert found == [(0, 1), (1, 2), (1, 2), (-1, 2), "invalid charge", (0, 3), (0, 1), (1, 2)]
