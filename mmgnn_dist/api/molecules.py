"""Molecules of other packages as a table that the readers take: SMILES, RDKit, ASE, PyG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmgnn_dist.errors import UserError

TextFields = Mapping[str, Sequence[Any]]  # a word stands for the value of one molecule
GEOMETRY_KEYS = ("atomic_numbers", "positions")
STATES = ("charge", "multiplicity", "spin")


def sources_of(molecules: Any, text: TextFields, folder: Path) -> list[str]:
    """Return sources for some molecules; those that are no files are written to a table in `folder`.

    Args:
        molecules: one or many SMILES, RDKit molecules, `ase.Atoms`, PyG `Data` (with `z` and `pos`) or pairs
            of atomic numbers and positions in Å; or one or many files. Charge and multiplicity are read from
            `Atoms.info` or the initial charges, from `Data`, and from the structure of RDKit's molecules.
        text: text fields, one value a molecule.
        folder: an empty folder.

    Raises:
        UserError: something is none of these, some have a geometry and others not, or text does not fit.
    """
    many = list(molecules) if _is_many(molecules) else [molecules]
    files = [
        entry for entry in many if isinstance(entry, Path) or (isinstance(entry, str) and _is_file(entry))
    ]
    if files and len(files) == len(many):
        if text:
            raise UserError("text goes with molecules, not with files: a file has columns of its own")
        return [str(file) for file in files]
    if not many or files:
        raise UserError("give molecules, or files, at least one and not both")
    rows = [_row(molecule) for molecule in many]
    keys = {key for row in rows for key in row if key in GEOMETRY_KEYS}
    if keys and not all(keys <= row.keys() for row in rows):
        raise UserError(
            "some molecules have a geometry and others are SMILES: predict them one after the other"
        )
    states = [key for key in STATES if any(key in row for row in rows)]
    columns = {key: [row.get(key) for row in rows] for key in ("smiles", *sorted(keys), *states)}
    for name, given in text.items():
        values = [given] if isinstance(given, str) else given
        if len(values) != len(rows):
            raise UserError(f"text {name} has {len(values)} values for {len(rows)} molecules")
        columns[name] = list(values)
    return [str(_write(columns, folder))]


def _write(columns: dict[str, list[Any]], folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not any(columns["smiles"]):
        del columns["smiles"]
    path = folder / "molecules.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def _is_many(molecules: Any) -> bool:
    """Whether these are several molecules; a pair of numbers and positions, or a molecule, is one."""
    if isinstance(molecules, str | Path) or _looks_like_molecule(molecules):
        return False
    is_pair = isinstance(molecules, tuple) and len(molecules) == 2 and np.ndim(molecules[1]) == 2
    return isinstance(molecules, Iterable) and not is_pair


def _looks_like_molecule(value: Any) -> bool:
    return any(hasattr(value, name) for name in ("GetNumAtoms", "get_atomic_numbers")) or (
        hasattr(value, "z") and hasattr(value, "pos")
    )


def _is_file(word: str) -> bool:
    try:
        return Path(word).exists()
    except OSError:  # a long SMILES is no path
        return False


def _row(molecule: Any) -> dict[str, Any]:
    """Return SMILES or geometry of one molecule."""
    if isinstance(molecule, str):
        return {"smiles": molecule}
    if hasattr(molecule, "GetNumAtoms"):
        return _of_rdkit(molecule)
    if hasattr(molecule, "get_atomic_numbers"):
        if any(molecule.pbc):
            raise UserError("a periodic cell is no molecule: give the molecule without one (pbc=False)")
        states = {key: molecule.info[key] for key in STATES if key in molecule.info}
        if molecule.has("initial_charges"):
            states.setdefault("charge", round(float(molecule.get_initial_charges().sum()), 6))
        return _geometry(molecule.get_atomic_numbers(), molecule.get_positions()) | states
    if hasattr(molecule, "z") and hasattr(molecule, "pos"):
        given = {key: getattr(molecule, key, None) for key in STATES}
        states = {key: int(value) for key, value in given.items() if value is not None}
        return _geometry(np.asarray(molecule.z), np.asarray(molecule.pos)) | states
    if isinstance(molecule, tuple) and len(molecule) == 2:
        return _geometry(*map(np.asarray, molecule))
    kind = type(molecule).__name__
    raise UserError(
        f"{kind} is no molecule: give SMILES, RDKit, ase.Atoms, PyG Data, (numbers, positions) or files"
    )


def _of_rdkit(mol: Any) -> dict[str, Any]:
    from rdkit import Chem

    row: dict[str, Any] = {"smiles": Chem.MolToSmiles(Chem.RemoveHs(mol))}
    if mol.GetNumConformers() and mol.GetConformer().Is3D():
        if any(atom.GetNumImplicitHs() for atom in mol.GetAtoms()):
            raise UserError(
                "an RDKit molecule with a geometry needs its hydrogens: Chem.AddHs(mol, addCoords=True)"
            )
        numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
        row |= _geometry(numbers, mol.GetConformer().GetPositions())
        row["charge"] = Chem.GetFormalCharge(mol)
        row["multiplicity"] = 1 + sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    return row


def _geometry(numbers: np.ndarray, positions: np.ndarray) -> dict[str, Any]:
    values = np.asarray(positions, dtype=float).ravel().tolist()
    return dict(zip(GEOMETRY_KEYS, (numbers.ravel().tolist(), values), strict=True))
