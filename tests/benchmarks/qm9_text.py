"""Write text for every molecule of a QM9 Parquet, so that loaders carry a realistic number of tokens.

    python tests/benchmarks/qm9_text.py qm9.parquet text.parquet          (needs rdkit)

Formula and numbers are RDKit's; joined by `mmgnn data prepare qm9.parquet --text text.parquet`.
"""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from rdkit import Chem, RDLogger
from rdkit.Chem import Crippen, Descriptors, rdMolDescriptors

FIELDS = {
    "molecular_formula": rdMolDescriptors.CalcMolFormula,
    "molecular_weight": lambda m: round(Descriptors.MolWt(m), 2),
    "xlogp": lambda m: round(Crippen.MolLogP(m), 1),
    "h_bond_donor_count": rdMolDescriptors.CalcNumHBD,
    "h_bond_acceptor_count": rdMolDescriptors.CalcNumHBA,
    "rotatable_bond_count": rdMolDescriptors.CalcNumRotatableBonds,
    "tpsa": lambda m: round(rdMolDescriptors.CalcTPSA(m), 1),
}


def main(source: str, target: str) -> None:
    RDLogger.DisableLog("rdApp.*")
    table = pq.read_table(source, columns=["inchikey", "smiles"])
    columns: dict[str, list] = {"inchikey": [], **{name: [] for name in FIELDS}}
    for row in table.to_pylist():
        molecule = Chem.MolFromSmiles(row["smiles"]) if row["smiles"] else None
        if molecule is None or row["inchikey"] is None:
            continue
        columns["inchikey"].append(row["inchikey"])
        for name, value in FIELDS.items():
            columns[name].append(value(molecule))
    pq.write_table(pa.table(columns), target)
    print(f"{len(columns['inchikey'])} of {len(table)} molecules have text")


if __name__ == "__main__":
    main(*sys.argv[1:])
