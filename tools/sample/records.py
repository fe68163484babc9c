"""Rows of the table: text fields as PubChem names them, seeded gaps, Arrow schema."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import py2opsin
import pyarrow as pa
import pyarrow.parquet as pq
from rdkit import Chem
from rdkit.Chem import Crippen, Descriptors, rdMolDescriptors

UNITS = {"mu": "D", "homo": "eV", "lumo": "eV", "gap": "eV", "energy": "eV", "zpve": "eV", "cv": "cal/mol/K"}
DECIMALS = {"mu": 4, "homo": 4, "lumo": 4, "gap": 4, "energy": 5, "zpve": 5, "cv": 3}
COUNTS = ("h_bond_donor_count", "h_bond_acceptor_count", "rotatable_bond_count", "tpsa")
MAX_SYNONYMS = 8

# The shares of molecules without a field come out as the data card states them: 5 % lack all
# text; with that included 12 % lack a name, 25 % lack XLogP and 10 % lack each of COUNTS.
NO_TEXT, NO_NAME, NO_XLOGP, NO_COUNTS, NO_COUNT = 0.05, 0.074, 0.21, 0.03, 0.023

OPSIN = next(Path(py2opsin.__file__).parent.glob("opsin-cli-*.jar")).name.split("-")[2]
RDKIT = f"RDKit {version('rdkit')}"
BUILDER = f"systematic builder, OPSIN {OPSIN}"
SOURCE = (
    f"GFN2-xTB (tblite {version('tblite')}) geometry relaxed from ETKDGv3/MMFF94 ({RDKIT}), labels at that "
    f"geometry, harmonic zpve and cv (298.15 K, ideal gas, fixed-step numerical Hessian); ASE "
    f"{version('ase')}; names read by OPSIN {OPSIN} (py2opsin {version('py2opsin')})"
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("smiles", pa.string()),
        ("inchikey", pa.string()),
        ("atomic_numbers", pa.list_(pa.uint8())),
        ("positions", pa.list_(pa.float32())),
        *((name, pa.float64() if name == "energy" else pa.float32()) for name in UNITS),
        ("iupac_name", pa.string()),
        ("title", pa.string()),
        ("molecular_formula", pa.string()),
        ("molecular_weight", pa.float64()),
        ("xlogp", pa.float64()),
        ("h_bond_donor_count", pa.int32()),
        ("h_bond_acceptor_count", pa.int32()),
        ("rotatable_bond_count", pa.int32()),
        ("tpsa", pa.float64()),
        ("synonyms", pa.list_(pa.string())),
        ("field_sources", pa.string()),
    ],
    metadata={"mmgnn.units": json.dumps(UNITS), "mmgnn.source": SOURCE, "mmgnn.license": "MIT"},
)


@dataclass
class Candidate:
    """A structure that a name stands for, before it is labelled."""

    inchikey: str
    smiles: str
    name: str
    origin: str
    group: str
    title: str | None = None
    synonyms: dict[str, str] = field(default_factory=dict)  # other name -> its origin

    def seed(self, salt: int) -> int:
        """A seed that depends on the molecule alone, so that order and workers do not matter."""
        return int.from_bytes(sha256(f"{salt}:{self.inchikey}".encode()).digest()[:4], "big") >> 1


def text_fields(candidate: Candidate, salt: int) -> dict[str, object]:
    """Text fields of one molecule after its seeded gaps, with the origin of each field."""
    mol = Chem.MolFromSmiles(candidate.smiles)
    # Registries list names that differ in case alone; the first one stays.
    distinct = {name.casefold(): name for name in reversed(candidate.synonyms)}
    known = {candidate.name.casefold(), (candidate.title or "").casefold()}
    synonyms = [name for name in candidate.synonyms if distinct[name.casefold()] == name]
    synonyms = [name for name in synonyms if name.casefold() not in known][:MAX_SYNONYMS]
    values: dict[str, object] = {
        "iupac_name": candidate.name,
        "title": candidate.title,
        "molecular_formula": rdMolDescriptors.CalcMolFormula(mol),
        "molecular_weight": round(Descriptors.MolWt(mol), 2),
        # Adding 0.0 turns -0.0 into 0.0.
        "xlogp": round(Crippen.MolLogP(mol), 1) + 0.0,
        "h_bond_donor_count": rdMolDescriptors.CalcNumHBD(mol),
        "h_bond_acceptor_count": rdMolDescriptors.CalcNumHBA(mol),
        "rotatable_bond_count": rdMolDescriptors.CalcNumRotatableBonds(mol),
        "tpsa": round(rdMolDescriptors.CalcTPSA(mol), 1),
        "synonyms": synonyms or None,
    }
    origins = dict.fromkeys(values, RDKIT) | {
        "iupac_name": candidate.origin,
        "title": "hand table",
        "xlogp": f"{RDKIT} Crippen",
        "synonyms": "; ".join(sorted({candidate.synonyms[name] for name in synonyms})),
    }
    rng = np.random.default_rng(candidate.seed(salt))
    absent = set(values) if rng.random() < NO_TEXT else set()
    if rng.random() < NO_COUNTS:
        absent.update(COUNTS)
    chances = {"iupac_name": NO_NAME, "xlogp": NO_XLOGP} | dict.fromkeys(COUNTS, NO_COUNT)
    absent.update(name for name, chance in chances.items() if rng.random() < chance)
    values.update(dict.fromkeys(absent))
    kept = {name: origins[name] for name, value in values.items() if value is not None}
    return {**values, "field_sources": json.dumps(kept, separators=(",", ":"))}


def write(path: Path, candidates: dict[str, Candidate], labels: list[dict], salt: int) -> int:
    """Write the molecules that have labels to `path`, sorted by InChIKey; return their number."""
    rows = []
    for number, found in enumerate(sorted(labels, key=lambda row: row["inchikey"]), start=1):
        candidate = candidates[found["inchikey"]]
        rows.append(
            {
                "id": f"mm-{number:05d}",
                "smiles": candidate.smiles,
                "inchikey": candidate.inchikey,
                "atomic_numbers": found["atomic_numbers"],
                "positions": found["positions"],
                **{name: round(found[name], digits) for name, digits in DECIMALS.items()},
                **text_fields(candidate, salt),
            }
        )
    part = path.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), part, compression="zstd", compression_level=19)
    # Readers of the old file never see half of a new one.
    part.replace(path)
    return len(rows)
