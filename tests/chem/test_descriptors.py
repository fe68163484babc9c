"""RDKit's fields against values from the papers and from PubChem; scaffolds of known molecules."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmgnn_dist.chem.descriptors import DESCRIPTOR_FIELDS, describe, from_atoms, scaffolds


def fields(smiles, atoms=None):
    atoms = atoms or [[6]] * len(smiles)
    table, read = describe(
        pa.array(smiles, pa.large_string()), np.concatenate(atoms), np.array([len(z) for z in atoms])
    )
    assert table.column_names == list(DESCRIPTOR_FIELDS)
    return table.to_pylist(), read.tolist()


def test_ethanol():
    """PubChem CID 702 but for logP, which is the sum of Wildman and Crippen's contributions.

    C1 + C3 + O2 + 5 H1 + H2 = 0.1441 - 0.2035 - 0.2893 + 5 * 0.1230 - 0.2677
    """
    (ethanol,), read = fields(["CCO"])
    assert ethanol == {
        "molecular_formula": "C2H6O",
        "molecular_weight": pytest.approx(46.07, abs=0.005),
        "xlogp": pytest.approx(-0.0014, abs=1e-4),
        "h_bond_donor_count": 1,
        "h_bond_acceptor_count": 1,
        "rotatable_bond_count": 0,
        "tpsa": pytest.approx(20.2, abs=0.05),
    }
    assert read == [True]


@pytest.mark.parametrize("smiles", [None, "", "C1CC", "not a molecule", "C(C)(C)(C)(C)C"])
def test_without_a_readable_smiles_the_atoms_are_counted(smiles):
    (found,), read = fields([smiles], [[8, 1, 6, 1, 1, 1]])
    assert found.pop("molecular_formula") == "CH4O"
    assert found.pop("molecular_weight") == pytest.approx(32.042, abs=0.001)
    assert set(found.values()) == {None} and read == [False]


@pytest.mark.parametrize(
    ("z", "formula", "weight"),
    [([11, 17], "ClNa", 58.44), ([1, 1, 8], "H2O", 18.015), ([35, 1, 6, 1, 1], "CH3Br", 94.94)],
)
def test_hill_order(z, formula, weight):
    assert from_atoms(np.array(z)) == (formula, pytest.approx(weight, abs=0.005))


@pytest.mark.parametrize("z", [[], [0, 6], [6, 119], [-3]])
def test_what_is_no_element_has_no_formula(z):
    formula, weight = from_atoms(np.array(z, np.int64))
    assert formula is None and math.isnan(weight)


def test_scaffolds():
    """Toluene, an amide of two rings, the same with stereochemistry, a chain, nothing, nonsense."""
    smiles = ["Cc1ccccc1", "CC1CCCC1NC(=O)c1ccccc1", "C[C@H]1CCC[C@@H]1NC(=O)c1ccccc1", "CCO", None, "C1CC"]
    assert scaffolds(pa.array(smiles, pa.large_string())).to_pylist() == [
        "c1ccccc1",
        "O=C(NC1CCCC1)c1ccccc1",
        "O=C(NC1CCCC1)c1ccccc1",
        "",
        None,
        None,
    ]


@pytest.mark.shared
def test_real_molecules_agree_with_pubchem(shared):
    """PubChem's formula and weight of the QM9 molecules; TPSA where PubChem gives it."""
    theirs = pq.read_table(shared / "data/pubchem/qm9_pubchem_text.parquet").to_pylist()
    table = pq.read_table(shared / "data/qm9/qm9.parquet", columns=["gdb_idx", "smiles"])
    smiles = dict(zip(table["gdb_idx"].to_pylist(), table["smiles"].to_pylist(), strict=True))
    # stereo_exact leaves out isotopes and charges
    rows = [
        row for row in theirs if row["stereo_exact"] and row["molecular_formula"] and smiles[row["gdb_idx"]]
    ]
    ours, _ = fields([smiles[row["gdb_idx"]] for row in rows])
    formulas = [a["molecular_formula"] == b["molecular_formula"] for a, b in zip(ours, rows, strict=True)]
    assert len(rows) > 800 and np.mean(formulas) > 0.99
    same = [pair for pair, good in zip(zip(ours, rows, strict=True), formulas, strict=True) if good]
    weights = [a["molecular_weight"] - b["molecular_weight"] for a, b in same if b["molecular_weight"]]
    assert np.abs(weights).max() < 0.02
    areas = [a["tpsa"] - b["tpsa"] for a, b in same if b["tpsa"] is not None]
    assert len(areas) > 100 and np.mean(np.abs(areas) < 0.06) > 0.95
