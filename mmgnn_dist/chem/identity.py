"""InChIKeys of molecules: the given ones where valid, else those made from the SMILES.

A split keeps molecules with the same key together. Placeholders such as `nan`, which many molecules may
share, therefore do not count as keys.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.chem.rdkit_tools import chem

INCHIKEY = re.compile(r"[A-Z]{14}-[A-Z]{10}-[A-Z]")


def key_maker() -> str | None:
    """Return the tool that makes keys from SMILES: RDKit and its version, or None if it is not installed."""
    return f"rdkit {version('rdkit')}" if find_spec("rdkit") else None


def complete_keys(inchikey: pa.Array, smiles: pa.Array) -> pa.Array:
    """Return the InChIKey of each molecule: the given one if valid, else that of its SMILES.

    Args:
        inchikey: large_string [n]; null or any other text where there is no key.
        smiles: large_string [n], nullable.

    Returns:
        large_string [n]; null where there is no key and also no RDKit, or no SMILES that it reads.
    """
    fits = pc.match_substring_regex(inchikey, f"^{INCHIKEY.pattern}$").fill_null(False)
    keys = pc.if_else(fits, inchikey, None)
    missing = np.asarray(pc.and_(keys.is_null(), smiles.is_valid()), dtype=bool)
    if not missing.any() or not find_spec("rdkit"):
        return keys
    return pc.coalesce(keys, smiles_keys(pc.if_else(pa.array(missing), smiles, None)))


def smiles_keys(smiles: pa.Array) -> pa.Array:
    """Return the InChIKey of each SMILES, computed once for all conformers of a molecule.

    Args:
        smiles: large_string [n], nullable.

    Returns:
        large_string [n]; null where RDKit reads no molecule.
    """
    from rdkit import rdBase

    rdkit = chem()
    encoded = smiles.dictionary_encode()
    keys: list[str | None] = []
    with rdBase.BlockLogs():
        for text in encoded.dictionary.to_pylist():
            molecule = rdkit.MolFromSmiles(text)
            readable = molecule is not None and molecule.GetNumAtoms()
            keys.append(rdkit.MolToInchiKey(molecule) or None if readable else None)
    return pa.array(keys, pa.large_string()).take(encoded.indices)
