"""Drawings as geometries, against flat and other molecules of ASE's database, and drawings by RDKit."""

import numpy as np
import pytest
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import rdDepictor

from mmgnn_dist.chem.flat import flat_drawings


def in_plane(atoms):
    """Positions of a flat molecule, turned into the plane z = 0 exactly."""
    places = atoms.positions - atoms.positions.mean(axis=0)
    axes = np.linalg.svd(places)[2]
    turned = places @ axes.T
    assert np.abs(turned[:, 2]).max() < 1e-6
    turned[:, 2] = 0
    return turned


def judge(*molecules):
    z = np.concatenate([numbers for numbers, _ in molecules])
    count = np.array([len(numbers) for numbers, _ in molecules])
    return flat_drawings(z, count, np.concatenate([pos for _, pos in molecules])).tolist()


def test_flat_molecules_are_no_drawings():
    flat = [
        molecule(name) for name in ("H2O", "C6H6", "HCN", "C2H4", "H2CO", "HCOOH", "C4H4O", "C5H5N", "BF3")
    ]
    assert judge(*[(atoms.numbers, in_plane(atoms)) for atoms in flat]) == [False] * len(flat)
    assert judge((molecule("CH4").numbers, molecule("CH4").positions)) == [False]


@pytest.mark.parametrize("scale", [1.0, 1 / 1.5])
@pytest.mark.parametrize("smiles", ["CCO", "O", "c1ccccc1", "CC(C)(C)C", "C1CC1N"])
def test_drawings_by_rdkit_are_found(smiles, scale):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDepictor.Compute2DCoords(mol)
    z = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    drawing = z, mol.GetConformer().GetPositions() * scale
    heavy = (z > 1).sum()
    assert judge(drawing) == [scale == 1.0 or heavy > 1]


def test_a_molecule_pressed_flat_is_found():
    atoms = molecule("CH4")
    assert judge((atoms.numbers, atoms.positions * [1, 1, 0])) == [True]
