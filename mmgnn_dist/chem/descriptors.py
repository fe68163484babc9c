"""Text fields computed by RDKit where no database or file gives them, and Bemis-Murcko scaffolds.

Formula, weight, logP (Wildman and Crippen 1999, doi 10.1021/ci990307l), donors and acceptors, rotatable bonds
and TPSA (Ertl 2000, doi 10.1021/jm000942e) follow from the SMILES. Without a SMILES that RDKit reads, formula
and weight follow from the atoms and the rest stays absent. RDKit's values differ from PubChem's, because
XLogP3 and the Cactvs counts are other models; every field therefore keeps its origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.elements import SYMBOLS
from mmgnn_dist.chem.rdkit_tools import chem, without_atom_maps

NUMBERS = {
    "molecular_weight": "_CalcMolWt",
    "xlogp": "",  # the first of the Crippen descriptors
    "h_bond_donor_count": "CalcNumHBD",
    "h_bond_acceptor_count": "CalcNumHBA",
    "rotatable_bond_count": "CalcNumRotatableBonds",
    "tpsa": "CalcTPSA",
}
FROM_ATOMS = ("molecular_formula", "molecular_weight")
DESCRIPTOR_FIELDS = ("molecular_formula", *NUMBERS)


def describe(smiles: pa.Array, z: np.ndarray, z_count: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """Compute the text fields that RDKit can give.

    Args:
        smiles: large_string [n], null where there is none.
        z: atomic numbers of all molecules, concatenated, int64; a number that is no element has no weight.
        z_count: number of atoms of each molecule, int64 [n].

    Returns:
        `DESCRIPTOR_FIELDS` as columns, large_string and float32, null where unknown; and which molecules
        RDKit read from their SMILES, bool [n] (the fields of the others come from their atoms).
    """
    chem()
    from rdkit import rdBase
    from rdkit.Chem import rdMolDescriptors as calculate

    functions = [getattr(calculate, name) for name in NUMBERS.values() if name]
    n = len(z_count)
    formulas: list[str | None] = [None] * n
    numbers = np.full((n, len(NUMBERS)), np.nan)
    read = np.zeros(n, bool)
    with rdBase.BlockLogs():
        for row, molecule in read_molecules(smiles):
            formulas[row] = calculate.CalcMolFormula(molecule)
            values = [function(molecule) for function in functions]
            values.insert(1, calculate.CalcCrippenDescriptors(molecule)[0])
            numbers[row] = values
            read[row] = True
    first = np.cumsum(z_count) - z_count
    for row in np.flatnonzero(~read).tolist():
        formulas[row], numbers[row, 0] = from_atoms(z[first[row] : first[row] + z_count[row]])
    columns: dict[str, pa.Array] = {"molecular_formula": pa.array(formulas, pa.large_string())}
    for index, name in enumerate(NUMBERS):
        column = numbers[:, index].astype(np.float32)
        columns[name] = pa.array(column, mask=~np.isfinite(column))
    return pa.table(columns), read


def from_atoms(z: np.ndarray) -> tuple[str | None, float]:
    """Return the Hill formula (C, H, then by symbol) and the average weight, g/mol.

    They are None and NaN if there is no atom or a number is no element.
    """
    counts = np.bincount(np.clip(z, 0, len(SYMBOLS)), minlength=len(SYMBOLS))
    present = np.flatnonzero(counts).tolist()
    if not present or present[0] == 0 or present[-1] >= len(SYMBOLS):
        return None, float("nan")
    carbon = counts[6] > 0
    present.sort(key=lambda e: (not (carbon and e == 6), not (carbon and e == 1), SYMBOLS[e]))
    formula = "".join(SYMBOLS[e] + (str(counts[e]) if counts[e] > 1 else "") for e in present)
    return formula, float(sum(_weights()[e] * counts[e] for e in present))


def scaffolds(smiles: pa.Array) -> pa.Array:
    """Return Bemis-Murcko scaffolds (rings and linkers, no stereochemistry) as SMILES, large_string [n].

    The entry is "" for a molecule without rings and null without a SMILES that RDKit reads.
    """
    rdkit = chem()
    from rdkit import rdBase
    from rdkit.Chem.Scaffolds import MurckoScaffold

    encoded = smiles.dictionary_encode()
    scaffold_smiles: list[str | None] = [None] * len(encoded.dictionary)
    with rdBase.BlockLogs():
        for index, molecule in read_molecules(encoded.dictionary):
            rdkit.RemoveStereochemistry(molecule)
            scaffold_smiles[index] = rdkit.MolToSmiles(MurckoScaffold.GetScaffoldForMol(molecule))
    return pa.array(scaffold_smiles, pa.large_string()).take(encoded.indices)


def read_molecules(smiles: pa.Array) -> Iterator[tuple[int, Any]]:
    """Yield (index, RDKit molecule) of every SMILES that RDKit reads and that has an atom."""
    rdkit = chem()
    for index, text in enumerate(smiles.to_pylist()):
        molecule = rdkit.MolFromSmiles(text) if text else None
        if molecule is not None and molecule.GetNumAtoms():
            yield index, without_atom_maps(molecule)


@lru_cache(maxsize=1)
def _weights() -> list[float]:
    """Average atomic weights by atomic number, g/mol."""
    table = chem().GetPeriodicTable()
    return [0.0, *(table.GetAtomicWeight(z) for z in range(1, len(SYMBOLS)))]
