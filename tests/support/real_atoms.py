"""Atoms of real molecules for made columns: prepare sets a molecule aside whose SMILES has other atoms."""

from __future__ import annotations

from functools import cache

from rdkit import Chem
from rdkit.Chem import rdDistGeom


@cache
def atoms_of(smiles: str) -> tuple[list[int], list[float]] | None:
    """Atomic numbers and flat positions of a SMILES by RDKit, hydrogens included; None if it is no SMILES."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        return None
    mol = Chem.AddHs(mol)
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    return [
        atom.GetAtomicNum() for atom in mol.GetAtoms()
    ], mol.GetConformer().GetPositions().ravel().tolist()


def with_real_atoms(columns: dict) -> dict:
    """Give every row of made columns that has a SMILES the atoms of this SMILES."""
    for row, smiles in enumerate(columns["smiles"]):
        if smiles and (found := atoms_of(smiles)):
            columns["atomic_numbers"][row], columns["positions"][row] = found
    return columns
