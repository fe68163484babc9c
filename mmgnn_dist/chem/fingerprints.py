"""ECFP4 fingerprints: which circular fragments a molecule has, from its bond graph alone.

Extended-connectivity fingerprints of diameter 4 (Rogers and Hahn 2010, doi 10.1021/ci100050t), as RDKit's
Morgan fingerprints of radius 2, folded to `BITS` bits. They read the SMILES: no geometry, no stereochemistry.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.descriptors import read_molecules

BITS, RADIUS = 2048, 2


def fingerprints(smiles: pa.Array) -> np.ndarray:
    """Compute the fingerprint of each SMILES.

    Args:
        smiles: large_string [n], null where there is none.

    Returns:
        Bits, uint8 [n, BITS]; all zero without a SMILES that RDKit reads.
    """
    from rdkit import rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    bits = np.zeros((len(smiles), BITS), np.uint8)
    with rdBase.BlockLogs():
        for row, molecule in read_molecules(smiles):
            bits[row] = generator.GetFingerprintAsNumPy(molecule)
    return bits
