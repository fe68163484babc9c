"""A conformer for a SMILES: RDKit's ETKDGv3, then MMFF94.

The seed comes from the canonical SMILES. With one version of RDKit, a molecule therefore has the same
geometry wherever it is in the data and however its SMILES is written.
"""

from __future__ import annotations

import hashlib
from typing import Any

from mmgnn_dist.chem.checks import NO_CONFORMER, NO_STRUCTURE, OVERSIZED, BadRecord
from mmgnn_dist.chem.rdkit_tools import chem, logged

MAX_SMILES = 2000  # characters
ATTEMPTS = 50
SECONDS = 60  # most time for the embedding of one molecule
STEPS = 5000  # most steps of MMFF94; drug-like molecules take a few hundred


def conformer(smiles: str) -> tuple[list[int], Any, str]:
    """Make the geometry of one molecule, including hydrogens.

    Returns:
        Atomic numbers, coordinates (float64 [3 n], Å) and the InChIKey.

    Raises:
        BadRecord: no structure, no embedding, no MMFF94 parameters, or no convergence.
    """
    rdkit = chem()
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    if len(smiles) > MAX_SMILES:
        raise BadRecord(OVERSIZED, f"SMILES of {len(smiles)} characters, more than {MAX_SMILES}")
    with logged() as messages:
        mol = rdkit.MolFromSmiles(smiles) if smiles.isascii() and smiles else None
        if mol is None or not mol.GetNumAtoms():
            raise BadRecord(NO_STRUCTURE, messages[0] if messages else f"'{smiles[:60]}'")
        canonical = rdkit.MolToSmiles(mol)
        mol = rdkit.AddHs(rdkit.MolFromSmiles(canonical))
        inchikey = rdkit.MolToInchiKey(mol)
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big") >> 1
        settings.maxIterations = ATTEMPTS
        settings.timeout = SECONDS
        if rdDistGeom.EmbedMolecule(mol, settings) != 0:
            raise BadRecord(NO_CONFORMER, "ETKDGv3 finds no geometry")
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            raise BadRecord(NO_CONFORMER, "MMFF94 has no parameters for some of its atoms")
        if rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=STEPS) != 0:
            raise BadRecord(NO_CONFORMER, f"MMFF94 does not converge in {STEPS} steps")
    z = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    return z, mol.GetConformer().GetPositions().ravel(), inchikey
