"""Conformers for a SMILES: RDKit's ETKDGv3, then MMFF94, and what stands in where one of them cannot.

The seed comes from the canonical SMILES without atom-map numbers. With one version of RDKit, a molecule
therefore has the same geometries wherever it is in the data and however its SMILES is written. Where MMFF94
has no parameters (boron, selenium, radicals) or does not converge, UFF relaxes the geometry; where UFF
cannot either, it stays as ETKDGv3 made it. Every such molecule carries a note.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmgnn_dist.chem.checks import (
    NO_CONFORMER,
    NO_ELEMENT,
    NO_STRUCTURE,
    OVERLAP,
    OVERSIZED,
    BadRecord,
)
from mmgnn_dist.chem.elements import no_element
from mmgnn_dist.chem.rdkit_tools import chem, logged, without_atom_maps
from mmgnn_dist.config import ConformerConfig

MAX_SMILES = 2000  # characters
ATTEMPTS = 50
SECONDS = 60  # most time for the embedding of one molecule
STEPS = 5000  # most steps of a force field; drug-like molecules take a few hundred of MMFF94's
SAME = 0.05  # Å; conformers whose sorted distances differ by less are one
ONE = ConformerConfig()
UFF_NOTE, RAW_NOTE, RANDOM_NOTE = (
    "geometry by UFF",
    "geometry by ETKDGv3 alone",
    "geometry from random coordinates",
)


@dataclass(frozen=True)
class Embedded:
    """The geometries made for one SMILES.

    Attributes:
        z: atomic numbers, hydrogens included.
        positions: coordinates of each conformer, float64 [3 n], Å, the one of lowest energy first.
        inchikey: InChIKey of the molecule.
        note: what was done otherwise than for most molecules, "" for nothing.
        why: the reason for the note.
    """

    z: list[int]
    positions: list[np.ndarray]
    inchikey: str
    note: str = ""
    why: str = ""


def embed_smiles(smiles: str, wanted: ConformerConfig = ONE) -> Embedded:
    """Make geometries of one molecule, including hydrogens.

    Args:
        smiles: the molecule.
        wanted: how many conformers are made, and which are kept.

    Raises:
        BadRecord: no structure, or no embedding.
    """
    rdkit = chem()
    if len(smiles) > MAX_SMILES:
        raise BadRecord(OVERSIZED, f"SMILES of {len(smiles)} characters, more than {MAX_SMILES}")
    with logged() as messages:
        mol = rdkit.MolFromSmiles(smiles) if smiles.isascii() and smiles else None
        if mol is None or not mol.GetNumAtoms():
            raise BadRecord(NO_STRUCTURE, messages[0] if messages else f"'{smiles[:60]}'")
        if dummy := next((atom for atom in mol.GetAtoms() if not atom.GetAtomicNum()), None):
            word = dummy.GetSymbol()
            raise BadRecord(NO_ELEMENT, f"atom {dummy.GetIdx() + 1}: {no_element(word)}")
        canonical = rdkit.MolToSmiles(without_atom_maps(mol))
        mol = rdkit.AddHs(rdkit.MolFromSmiles(canonical))
        inchikey = rdkit.MolToInchiKey(mol)
        at_random = _embed(mol, canonical, wanted.count)
        energies, note, why = _relax(mol)
        parts = len(rdkit.GetMolFrags(mol))
        if parts > 1 and _collide(mol):
            raise BadRecord(NO_CONFORMER, f"{parts} separate parts (a salt or mixture): give a geometry")
    order = np.argsort(energies, kind="stable").tolist()
    conformers = [mol.GetConformer(number) for number in order]
    positions = [conformer.GetPositions().ravel() for conformer in conformers]
    kept = _distinct(positions) if wanted.keep == "all" else positions[:1]
    if at_random:
        note, why = note or RANDOM_NOTE, "; ".join(filter(None, (why, at_random)))
    return Embedded([atom.GetAtomicNum() for atom in mol.GetAtoms()], kept, inchikey, note, why)


def _embed(mol: Any, canonical: str, count: int) -> str:
    """Give a molecule conformers numbered from 0; return why they start at random coordinates, else "".

    Raises:
        BadRecord: no embedding.
    """
    from rdkit.Chem import rdDistGeom

    settings: Any = rdDistGeom.ETKDGv3()
    settings.randomSeed = int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big") >> 1
    settings.maxIterations = ATTEMPTS
    settings.timeout = SECONDS
    settings.embedFragmentsSeparately = "." not in canonical  # else the parts of a salt lie in one another
    for settings.useRandomCoords in (False, True):
        if len(rdDistGeom.EmbedMultipleConfs(mol, count, settings)):
            break
    else:
        raise BadRecord(NO_CONFORMER, "ETKDGv3 finds no geometry, from random coordinates neither")
    for number, conformer in enumerate(mol.GetConformers()):
        conformer.SetId(number)
    return "ETKDGv3 finds no geometry from its own start" if settings.useRandomCoords else ""


def _relax(mol: Any) -> tuple[list[float], str, str]:
    """Relax all conformers of a molecule by one force field: their energies, and note and reason as above."""
    from rdkit.Chem import rdForceFieldHelpers as fields

    raw = [conformer.GetPositions() for conformer in mol.GetConformers()]
    reasons = []
    for name, has_parameters, optimize in (
        ("MMFF94", fields.MMFFHasAllMoleculeParams, fields.MMFFOptimizeMoleculeConfs),
        ("UFF", fields.UFFHasAllMoleculeParams, fields.UFFOptimizeMoleculeConfs),
    ):
        if not has_parameters(mol):
            reasons.append(f"{name} has no parameters for some of its atoms")
            continue
        results = optimize(mol, maxIters=STEPS)
        if not any(left for left, _ in results):
            return [energy for _, energy in results], UFF_NOTE if reasons else "", "; ".join(reasons)
        reasons.append(f"{name} does not converge in {STEPS} steps")
        for conformer, positions in zip(mol.GetConformers(), raw, strict=True):
            conformer.SetPositions(positions)
    return [0.0] * len(raw), RAW_NOTE, "; ".join(reasons)


def _collide(mol: Any) -> bool:
    """Whether a conformer has two atoms in one place, as RDKit puts separate parts."""
    for conformer in mol.GetConformers():
        positions = conformer.GetPositions()
        first, second = np.triu_indices(len(positions), 1)
        if (np.linalg.norm(positions[first] - positions[second], axis=1) < OVERLAP).any():
            return True
    return False


def _distinct(positions: list[np.ndarray]) -> list[np.ndarray]:
    """Leave out conformers that repeat an earlier one, turned, mirrored or with equal atoms exchanged."""
    kept: list[np.ndarray] = []
    shapes: list[np.ndarray] = []
    for flat in positions:
        pos = flat.reshape(-1, 3)
        first, second = np.triu_indices(len(pos), 1)
        shape = np.sort(np.linalg.norm(pos[first] - pos[second], axis=1))
        if all(np.abs(shape - other).max(initial=0) > SAME for other in shapes):
            kept.append(flat)
            shapes.append(shape)
    return kept
