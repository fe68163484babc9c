"""One record of an SD file to a molecule, by RDKit: V2000 and V3000, data fields as targets and text.

The geometry is used as it is, including hydrogens. SMILES and InChIKey come from the bonds, unless data
fields give them; a record whose valences RDKit refuses keeps its geometry and has neither. If the bonds
require hydrogens that are missing, the record is refused. QM9 is exempt from this check, because its bonds
were guessed from its geometries; others get them on request. QM9's charges are not read either. PubChem's
data fields are read as the corresponding text fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from mmgnn_dist.chem.checks import FLAT, NO_ELEMENT, NO_HYDROGENS, UNREADABLE, BadRecord
from mmgnn_dist.chem.elements import SYMBOLS, element_number, no_element
from mmgnn_dist.chem.own_targets.values import to_float
from mmgnn_dist.chem.rdkit_tools import chem, logged
from mmgnn_dist.chem.readers.record import Record
from mmgnn_dist.chem.readers.record_format import RecordFormat
from mmgnn_dist.chem.readers.source import QM9_ID, column_name
from mmgnn_dist.chem.states.charge_spin import block_state
from mmgnn_dist.chem.states.electronic_state import NO_STATEMENT
from mmgnn_dist.chem.streams.frames import sdf_records

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
WORD = re.compile(r"[A-Za-z]{1,3}:?|[A-Za-z]{1,2}\d[\da-z]?|-")  # what stands for an element, right or wrong
PLANAR = 3  # atoms that always lie in a plane
V3000_WORDS = 8  # of the line of an atom: M V30, index, symbol, position, atom map


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

    def own_id(self, raw: bytes, values: Mapping[str, str]) -> str | None:
        """Return the field `id`, else the title, as QM9's name if it is one."""
        own = values.get("id") or title(raw)
        return qm9_id(own) or own or None

    def remarks(self, raw: bytes) -> Iterator[str]:
        """Yield a remark on each data field that stands twice with different values."""
        for name, values in read_fields(raw)[1].items():
            yield f"the data field {name} stands twice ({values})"

    def describe(self, raw: bytes) -> str:
        """Name the data fields."""
        names = ", ".join(data_fields(raw)) or "none"
        return f"its data fields are {names[:100]}"

    def parse_with_hydrogens(self, raw: bytes, name: str) -> Record:
        """See `parse_sdf`."""
        return parse_sdf(raw, name, add_hydrogens=True)


def data_fields(raw: bytes) -> dict[str, str]:
    """Return the data fields of a record; the lines of a field are joined by line ends."""
    return read_fields(raw)[0]


def read_fields(raw: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Return the data fields, the first of each name, and both values of those that stand twice."""
    start = raw.find(b"M  END")
    lines = raw[start:].decode("utf-8", "replace").split("\n") if start >= 0 else []
    found: list[tuple[str, list[str]]] = []
    values: list[str] | None = None
    for line in lines:
        if header := FIELD.match(line):
            values = []
            found.append((header[1].strip(), values))
        elif not line.strip():
            values = None
        elif values is not None:
            values.append(line.strip())
    fields, conflicts = dict[str, str](), dict[str, str]()
    own_names: dict[str, str] = {}
    for header_name, parts in found:
        name, value = PUBCHEM_FIELDS.get(header_name) or column_name(header_name), "\n".join(parts)
        own_name = header_name if header_name in PUBCHEM_FIELDS else name
        # of two of PubChem's fields for one, such as two SMILES, the last is read
        if own_names.get(name) == own_name and fields[name] != value:
            conflicts.setdefault(name, f"'{fields[name][:40]}' and '{value[:40]}'")
        else:
            fields[name], own_names[name] = value, own_name
    return fields, conflicts


def title(raw: bytes) -> str:
    """Return the first line of a record."""
    return raw.split(b"\n", 1)[0].decode("utf-8", "replace").strip()


def qm9_id(text: str) -> str | None:
    """Return QM9's own name of a molecule, `dsgdb9nsd_000001`, from `gdb_1`; None for other text."""
    match = QM9_ID.fullmatch(text)
    return f"dsgdb9nsd_{int(match[1]):06d}" if match else None


def parse_sdf(raw: bytes, name: str, add_hydrogens: bool = False) -> Record:
    """Parse the molecule of one record.

    Args:
        raw: the record without its `$$$$`.
        name: id of a record that has neither a field `id` nor a title.
        add_hydrogens: add the hydrogens that the bonds require and the record lacks, at RDKit's positions.

    Raises:
        BadRecord: the record is no molecule.
    """
    # RDKit counts bytes and may split a character of several bytes
    text = raw.replace(b"\r", b"").replace(b"\0", b" ").decode("ascii", "replace").replace("\ufffd", "?")
    end = text.find("\nM  END")
    if end < 0:
        raise BadRecord(UNREADABLE, "no line 'M  END'")
    text = text[: end + 7] + "\n"
    rdkit = chem()
    with logged() as messages:
        mol = _mol(rdkit, text)
        if mol is None:
            text = _with_symbols(text)
            mol = _mol(rdkit, text)
        if mol is None:
            raise BadRecord(UNREADABLE, messages[-1] if messages else "RDKit cannot read it")
        if mol.GetNumConformers() == 0 and mol.GetNumAtoms():
            raise BadRecord(UNREADABLE, "no coordinates")
        second_line = text.split("\n", 2)[1]
        if second_line[20:22].upper() == "2D":
            raise BadRecord(FLAT, "a drawing: give SMILES to have a conformer made")
        z, pos = _geometry(mol)
        _compare(text, pos)
        if 0 in z:
            _with_symbols(text)
        fields, conflicts = read_fields(raw)
        smiles, inchikey = fields.get("smiles"), fields.get("inchikey")
        own_id = fields.get("id") or title(raw)
        qm9_name = qm9_id(own_id)
        derived = False
        structure = NO_STATEMENT if qm9_name else block_state(mol, text[:end])
        if z and _is_sound(rdkit, mol):
            missing = sum(atom.GetNumImplicitHs() for atom in mol.GetAtoms())
            if missing and mol.GetNumBonds() and not qm9_name:
                if len(z) > PLANAR and not pos.reshape(-1, 3)[:, 2].any():
                    raise BadRecord(FLAT, "all z are 0, a drawing: give SMILES to have a conformer made")
                if not add_hydrogens:
                    raise BadRecord(
                        NO_HYDROGENS,
                        f"{missing} by its bonds: add them (data.add_hydrogens=true), or give XYZ",
                    )
                mol = rdkit.AddHs(mol, addCoords=True)
                z, pos = _geometry(mol)
            derived = not smiles
            smiles = smiles or rdkit.MolToSmiles(rdkit.RemoveHs(mol))
            inchikey = inchikey or rdkit.MolToInchiKey(mol)
    return Record(
        id=qm9_name or own_id or name,
        z=z,
        pos=pos,
        smiles=smiles,
        inchikey=inchikey,
        values=fields,
        conflicts=conflicts,
        derived=derived,
        structure=structure,
    )


def _mol(rdkit: Any, text: str) -> Any:
    return rdkit.MolFromMolBlock(text, sanitize=False, removeHs=False, strictParsing=True)


def _geometry(mol: Any) -> tuple[list[int], np.ndarray]:
    """Return atomic numbers and flat coordinates, Å."""
    z = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    return z, mol.GetConformer().GetPositions().ravel() if z else np.zeros(0)


def _with_symbols(text: str) -> str:
    """Return a mol block with its symbols as RDKit knows them, which minds their case.

    Raises:
        BadRecord: a symbol is that of no element.
    """
    lines = text.split("\n")
    first = next((k for k, line in enumerate(lines) if V3000_ATOMS.match(line)), 0)
    if first:
        rows = [k for k in range(first + 1, len(lines)) if len(lines[k].split()) >= V3000_WORDS]
        last = next((k for k in range(first, len(lines)) if "END ATOM" in lines[k]), len(lines))
        spots = [(k, lines[k].split()[3]) for k in rows if k < last]
    else:
        count = lines[3][:3].strip() if len(lines) > 3 else ""
        atoms = lines[4 : 4 + int(count)] if count.isdecimal() else []
        spots = [(k, line[31:34].strip()) for k, line in enumerate(atoms, 4)]
    for number, (k, symbol) in enumerate(spots, 1):
        z = element_number(symbol)
        if (not z or symbol.isdecimal()) and not WORD.fullmatch(symbol):
            return text  # the line is no line of an atom, which RDKit says better
        if not z:
            raise BadRecord(NO_ELEMENT, f"atom {number}: {no_element(symbol)}")
        known = symbol.upper() if symbol.upper() in ("D", "T") else SYMBOLS[z]
        if known != symbol and first:
            lines[k] = re.sub(rf"^((?:\S+\s+){{3}}){re.escape(symbol)}(?=\s)", rf"\g<1>{known}", lines[k])
        elif known != symbol:
            lines[k] = f"{lines[k][:31]}{known:<3}{lines[k][34:]}"
    return "\n".join(lines)


def _compare(text: str, pos: np.ndarray) -> None:
    """Refuse coordinates that are not numbers: RDKit reads `0?63` as 0 and `0x63` as 99."""
    lines = text.split("\n")
    words: list[list[str]] = []
    if "V3000" in lines[3]:
        start = next((k for k, line in enumerate(lines) if V3000_ATOMS.match(line)), len(lines)) + 1
        joined = "\n".join(lines[start:]).replace("-\nM  V30 ", "").split("\n")  # continued lines
        words = [line.split()[4:7] for line in joined[: len(pos) // 3] if len(line.split()) >= V3000_WORDS]
        words += [[]] * (len(pos) // 3 - len(words))
    else:
        words = [[line[:10], line[10:20], line[20:30]] for line in lines[4 : 4 + len(pos) // 3]]
    for number, (row, position) in enumerate(zip(words, pos.reshape(-1, 3), strict=True)):
        try:
            same = bool(row) and np.array_equal([to_float(word) for word in row], position, equal_nan=True)
        except ValueError:
            same = False
        if not same:
            raise BadRecord(UNREADABLE, f"atom {number + 1}: '{' '.join(row)[:60]}' is no position")


def _is_sound(rdkit: Any, mol: Any) -> bool:
    """Whether RDKit accepts the valences; if so, take stereochemistry from the coordinates."""
    if rdkit.SanitizeMol(mol, catchErrors=True) != 0:
        return False
    rdkit.AssignStereochemistryFrom3D(mol)
    return True
