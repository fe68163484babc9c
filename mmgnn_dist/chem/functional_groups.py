"""Functional groups as SMARTS, coarse enough that a few thousand small organic molecules fill each group."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.descriptors import read_molecules
from mmgnn_dist.chem.rdkit_tools import chem

GROUPS = {
    "alcohol": "[OX2H][CX4]",
    "ether": "[OD2]([#6;!$(C=O)])[#6;!$(C=O)]",
    "aldehyde or ketone": "[#6][CX3](=O)[#6,#1]",
    "acid or ester": "[CX3](=O)[OX2]",
    "amide": "[NX3][CX3](=O)",
    "amine": "[NX3;!$(N-C=[O,N,S]);!$(N-[!#6;!#1]);!$(N-[c,n])]([#6,#1])([#6,#1])[CX4]",
    "imine or amidine": "[CX3]=[NX2]",
    "nitrile": "C#N",
    "alkyne": "C#C",
    "alkene": "C=C",
    "aromatic ring": "a",
    "ring of three or four": "[r3,r4]",
    "halogen": "[F,Cl,Br,I]",
}


def functional_groups(smiles: pa.Array) -> np.ndarray:
    """Return which groups each molecule has, bool [n, len(GROUPS)].

    A molecule without a SMILES that RDKit reads has none.

    Raises:
        UserError: RDKit is not installed.
    """
    rdkit = chem()
    from rdkit import rdBase

    patterns = [rdkit.MolFromSmarts(smarts) for smarts in GROUPS.values()]
    has_group = np.zeros((len(smiles), len(patterns)), bool)
    with rdBase.BlockLogs():
        for row, molecule in read_molecules(smiles):
            has_group[row] = [molecule.HasSubstructMatch(pattern) for pattern in patterns]
    return has_group
