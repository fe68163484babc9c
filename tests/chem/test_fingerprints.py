"""ECFP4 against RDKit's other implementation of Morgan fingerprints."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from rdkit import Chem, rdBase
from rdkit.Chem.rdMolDescriptors import GetHashedMorganFingerprint

from mmgnn_dist.chem.fingerprints import BITS, fingerprints


def test_bits_are_those_of_circular_fragments():
    smiles = ["CCO", "c1ccncc1C(=O)N", "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", None, "no SMILES"]
    found = fingerprints(pa.array(smiles, pa.large_string()))
    assert found.dtype == np.uint8 and found.shape == (6, BITS)
    with rdBase.BlockLogs():
        for text, bits in zip(smiles[:4], found, strict=False):
            counts = GetHashedMorganFingerprint(Chem.MolFromSmiles(text), 2, BITS)
            assert np.flatnonzero(bits).tolist() == sorted(counts.GetNonzeroElements())
    assert np.array_equal(found[2], found[3]) and not found[4:].any()
