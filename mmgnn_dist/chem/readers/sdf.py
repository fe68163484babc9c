"""One record of an SD file to a molecule, by RDKit: V2000 and V3000, data fields as targets and text.

The geometry is used as it is, including hydrogens. SMILES and InChIKey come from the bonds, unless data
fields give them; a record whose valences RDKit refuses keeps its geometry and has neither. If the bonds
require hydrogens that are missing, the record is refused. QM9 is exempt from this check, because its bonds
were guessed from its geometries; its charges are not read either. PubChem's data fields are read as the
corresponding text fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

import numpy as np

from mmgnn_dist.chem.checks import FLAT, NO_HYDROGENS, UNREADABLE, BadRecord
from mmgnn_dist.chem.rdkit_tools import chem, logged
from mmgnn_dist.chem.readers.frames import sdf_records
from mmgnn_dist.chem.readers.record import Record, to_float
from mmgnn_dist.chem.readers.record_format import RecordFormat
from mmgnn_dist.chem.readers.source import QM9_ID
from mmgnn_dist.chem.states.charge_spin import block_state
from mmgnn_dist.chem.states.electronic_state import NO_STATEMENT

V3000_ATOMS = re.compile(r"M  V30 BEGIN ATOM\s*$")
FIELD = re.compile(r"^>[^<\n]*<([^>\n]+)>")
PUBCHEM_FIELDS = {
    "PUBCHEM_COMPOUND_CID": "cid",
    "PUBCHEM_IUPAC_NAME": "iupac_name",
    "PUBCHEM_XLOGP3": "xlogp",
    "PUBCHEM_XLOGP3_AA": "xlogp",
    "PUBCHEM_CACTVS_TPSA": "tpsa",
    "PUBCHEM_MOLECULAR_FORMULA": "molecular_formula",
    "PUBCHEM_MOLECULAR_WEIGHT": "molecular_weight",
    "PUBCHEM_CACTVS_HBOND_DONOR": "h_bond_donor_count",
    "PUBCHEM_CACTVS_HBOND_ACCEPTOR": "h_bond_acceptor_count",
    "PUBCHEM_CACTVS_ROTATABLE_BOND": "rotatable_bond_count",
    "PUBCHEM_IUPAC_INCHIKEY": "inchikey",
    "PUBCHEM_SMILES": "smiles",
    "PUBCHEM_OPENEYE_ISO_SMILES": "smiles",
}
IDENTIFIER = {"id": "id", "smiles": "smiles", "inchikey": "inchikey"}  # in upper or lower case


class SdfFormat(RecordFormat):
    """SD files, V2000 and V3000."""

    suffixes = (".sdf", ".sd", ".mol")

    def cut(self, stream: IO[bytes]) -> Iterator[bytes | BadRecord]:
        """See `frames.sdf_records`."""
        return sdf_records(stream)

    def columns(self, raw: bytes) -> dict[str, str]:
        """Return the data fields."""
        return data_fields(raw)

    def parse(self, raw: bytes, name: str) -> Record:
        """See `parse_sdf`."""
        return parse_sdf(raw, name)

    def is_qm9(self, raw: bytes) -> bool:
        """Whether the title is one of QM9, such as `gdb_1`."""
        return qm9_id(title(raw)) is not None


def data_fields(raw: bytes) -> dict[str, str]:
    """Return the data fields of a record; the lines of a field are joined by line ends."""
    start = raw.find(b"M  END")
    lines = raw[start:].decode("utf-8", "replace").splitlines() if start >= 0 else []
    fields: dict[str, str] = {}
    name = None
    for line in lines:
        if header := FIELD.match(line):
            name = header[1].strip()
            name = PUBCHEM_FIELDS.get(name, IDENTIFIER.get(name.lower(), name))
            fields[name] = ""
        elif not line.strip():
            name = None
        elif name is not None:
            fields[name] = f"{fields[name]}\n{line.strip()}" if fields[name] else line.strip()
    return fields


def title(raw: bytes) -> str:
    """Return the first line of a record."""
    return raw.split(b"\n", 1)[0].decode("utf-8", "replace").strip()


def qm9_id(text: str) -> str | None:
    """Return QM9's own name of a molecule, `dsgdb9nsd_000001`, from `gdb_1`; None for other text."""
    match = QM9_ID.fullmatch(text)
    return f"dsgdb9nsd_{int(match[1]):06d}" if match else None


def parse_sdf(raw: bytes, name: str) -> Record:
    """Parse the molecule of one record.

    Args:
        raw: the record without its `$$$$`.
        name: id of a record that has neither a field `id` nor a title.

    Raises:
        BadRecord: the record is no molecule.
    """
    # RDKit counts bytes and may split a character of several bytes
    text = raw.replace(b"\r\n", b"\n").replace(b"\0", b" ").decode("ascii", "replace").replace("\ufffd", "?")
    end = text.find("\nM  END")
    if end < 0:
        raise BadRecord(UNREADABLE, "no line 'M  END'")
    rdkit = chem()
    with logged() as messages:
        mol = rdkit.MolFromMolBlock(
            text[: end + 7] + "\n", sanitize=False, removeHs=False, strictParsing=True
        )
        if mol is None:
            raise BadRecord(UNREADABLE, messages[-1] if messages else "RDKit cannot read it")
        if mol.GetNumConformers() == 0 and mol.GetNumAtoms():
            raise BadRecord(UNREADABLE, "no coordinates")
        second_line = text.split("\n", 2)[1]
        if second_line[20:22].upper() == "2D":
            raise BadRecord(FLAT, "a drawing: give SMILES to have a conformer made")
        z = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        pos = mol.GetConformer().GetPositions().ravel() if z else np.zeros(0)
        _compare(text, pos)
        fields = data_fields(raw)
        smiles, inchikey = fields.get("smiles"), fields.get("inchikey")
        own_id = fields.get("id") or title(raw)
        qm9_name = qm9_id(own_id)
        structure = NO_STATEMENT if qm9_name else block_state(mol, text[:end])
        if z and _is_sound(rdkit, mol):
            missing = sum(atom.GetNumImplicitHs() for atom in mol.GetAtoms())
            if missing and mol.GetNumBonds() and not qm9_name:
                raise BadRecord(NO_HYDROGENS, f"{missing} by its bonds: add them, or give XYZ")
            smiles = smiles or rdkit.MolToSmiles(rdkit.RemoveHs(mol))
            inchikey = inchikey or rdkit.MolToInchiKey(mol)
    return Record(
        id=qm9_name or own_id or name,
        z=z,
        pos=pos,
        smiles=smiles,
        inchikey=inchikey,
        values=fields,
        structure=structure,
    )


def _compare(text: str, pos: np.ndarray) -> None:
    """Refuse coordinates that are not numbers: RDKit reads `0?63` as 0 and `0x63` as 99."""
    lines = text.splitlines()
    words: list[list[str]] = []
    if "V3000" in lines[3]:
        start = next((k for k, line in enumerate(lines) if V3000_ATOMS.match(line)), len(lines)) + 1
        joined = "\n".join(lines[start:]).replace("-\nM  V30 ", "").splitlines()  # continued lines
        words = [line.split()[4:7] for line in joined[: len(pos) // 3]]
    else:
        words = [[line[:10], line[10:20], line[20:30]] for line in lines[4 : 4 + len(pos) // 3]]
    for number, (row, position) in enumerate(zip(words, pos.reshape(-1, 3), strict=True)):
        try:
            same = np.array_equal([to_float(word) for word in row], position, equal_nan=True)
        except ValueError:
            same = False
        if not same:
            raise BadRecord(UNREADABLE, f"atom {number + 1}: '{' '.join(row)[:60]}' is no position")


def _is_sound(rdkit: object, mol: object) -> bool:
    """Whether RDKit accepts the valences; if so, take stereochemistry from the coordinates."""
    if rdkit.SanitizeMol(mol, catchErrors=True) != 0:  # type: ignore[attr-defined]
        return False
    rdkit.AssignStereochemistryFrom3D(mol)  # type: ignore[attr-defined]
    return True
