"""Compositions against RDKit's, and identities that must not be taken for contradictory."""

from collections import Counter

import pyarrow.parquet as pq
import pytest

from mmgnn_dist.chem.composition import formula_counts, inchi_counts, quick_counts, smiles_counts

SMILES = (
    "C",
    "CC",
    "C=C",
    "C#N",
    "c1ccccc1",
    "c1ccncc1",
    "c1cc[nH]c1",
    "c1ccoc1",
    "c1ccsc1",
    "C[C@H](N)C(=O)O",
    "[NH3+]CC(=O)[O-]",
    "C1CC1N",
    "O=C=O",
    "CS(=O)(=O)C",
    "N1C2CC12",
    "c1ccc2ccccc2c1",
    "c1cc2cc1c2",
    "Cc1ccccc1Br",
    "C%10CC%10",
    "F/C=C/F",
    "[2H]O[2H]",
    "[13CH4]",
    "CC(C)(C)Cl",
    "O=c1cc[nH]cc1",
    "[CH2]",
    "[CH3:1][OH:2]",
    "C.O",
    "N#N",
    "[C-]#[O+]",
    "c1ccccc1-c1ccccc1",
    "OB(O)O",
    "CP(C)C",
    "C[N+](=O)[O-]",
    "CN(=O)=O",
)


@pytest.mark.parametrize("smiles", SMILES)
def test_quick_counts_are_rdkits(smiles):
    quick = quick_counts(smiles)
    assert quick is None or quick == smiles_counts(smiles)
    assert quick is not None or smiles in ("CS(=O)(=O)C", "CN(=O)=O", "c1cc2cc1c2")


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("C2H6O", {6: 2, 1: 6, 8: 1}),
        ("NH4+", {7: 1, 1: 4}),
        ("C6H6.2H2O", {6: 6, 1: 10, 8: 2}),
        ("CuSO4·5H2O", {29: 1, 16: 1, 8: 9, 1: 10}),
        ("D2O", {1: 2, 8: 1}),
        ("Ca2+", None),
        ("SO4-2", {16: 1, 8: 4}),
        ("about C2H6", None),
        ("", None),
        ("C2H6Qq", None),
    ],
)
def test_formulas(text, counts):
    assert formula_counts(text) == counts


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("InChI=1S/CH4/h1H4", {6: 1, 1: 4}),
        ("InChI=1S/H3N/h1H3/p+1", {7: 1, 1: 4}),
        ("InChI=1S/C2H4O2/c1-2(3)4/h1H3,(H,3,4)/p-1", {6: 2, 1: 3, 8: 2}),
        ("InChI=1S/p+1", None),
        ("CH4", None),
    ],
)
def test_inchis(text, counts):
    assert inchi_counts(text) == counts


@pytest.mark.shared
def test_no_molecule_of_qm9_contradicts_itself(shared):
    table = pq.read_table(shared / "data/qm9/qm9.parquet", columns=["smiles", "atomic_numbers"]).slice(
        0, 8000
    )
    for row in table.to_pylist():
        if row["smiles"]:
            quick = quick_counts(row["smiles"])
            assert quick is None or quick == dict(Counter(row["atomic_numbers"]))
