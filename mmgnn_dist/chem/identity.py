"""InChIKeys of molecules: which are ones, and where there is none, those that the SMILES give.

What belongs together in a split is told by the key, so placeholders such as `nan`, which many molecules may
share, are no keys.
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
    """Who makes keys of SMILES: the version of RDKit, None where it is not installed."""
    return f"rdkit {version('rdkit')}" if find_spec("rdkit") else None


def complete_keys(inchikey: pa.Array, smiles: pa.Array) -> pa.Array:
    """The InChIKey of each molecule: the given one, else that of its SMILES.

    Args:
        inchikey: large_string [n], null or anything else where there is none.
        smiles: large_string [n], nullable.

    Returns:
        large_string [n]; null where there is no key and no SMILES that RDKit reads, or no RDKit.
    """
    fits = pc.match_substring_regex(inchikey, f"^{INCHIKEY.pattern}$").fill_null(False)
    keys = pc.if_else(fits, inchikey, None)
    lacking = np.asarray(pc.and_(keys.is_null(), smiles.is_valid()), dtype=bool)
    if not lacking.any() or not find_spec("rdkit"):
        return keys
    return pc.coalesce(keys, _keys_of(pc.if_else(pa.array(lacking), smiles, None)))


def _keys_of(smiles: pa.Array) -> pa.Array:
    """The InChIKey of each SMILES, made once for all conformers of a molecule."""
    from rdkit import rdBase

    rdkit = chem()
    coded = smiles.dictionary_encode()
    found: list[str | None] = []
    with rdBase.BlockLogs():
        for text in coded.dictionary.to_pylist():
            molecule = rdkit.MolFromSmiles(text)
            readable = molecule is not None and molecule.GetNumAtoms()
            found.append(rdkit.MolToInchiKey(molecule) or None if readable else None)
    return pa.array(found, pa.large_string()).take(coded.indices)
