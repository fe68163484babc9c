"""Charge and multiplicity among the values of a source: which columns they are, and what they mean.

Names count in any case: `charge`, `total_charge`, `net_charge` and PubChem's `PUBCHEM_TOTAL_CHARGE`;
`multiplicity` and `spin_multiplicity`. `spin` is the multiplicity in fairchem's files and 2S, the number of
unpaired electrons, in others. The number of electrons allows one of the two only: `with_spin_meaning` takes
the one that fits more of the first molecules of a source, and says so. A column that is declared as a target
is no statement of the charge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import REASONS, BadRecord
from mmgnn_dist.chem.conformers import MAX_SMILES
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.own_targets.values import is_missing, to_float
from mmgnn_dist.chem.rdkit_tools import chem, logged
from mmgnn_dist.chem.readers.record import Record
from mmgnn_dist.chem.readers.source import Found, Source, printable
from mmgnn_dist.chem.states.electronic_state import (
    BAD_CHARGE,
    BAD_MULTIPLICITY,
    CHARGE_COLUMNS,
    MULTIPLICITY_COLUMNS,
    NO_STATEMENT,
    SPIN_COLUMN,
    StatedStates,
    StructureState,
    is_state_column,
    settle,
    smiles_charge,
)

LOOK = 50  # molecules that decide on the meaning of `spin`
ROUNDING = 0.05  # e; largest error of a sum of charges or moments of atoms that counts as a whole number
RADICAL = re.compile(r"^M  RAD.*\s(\d)\s*$|\sRAD=(\d)", re.MULTILINE)  # the entry of V2000, of V3000
PAIRS = {"1": 1.0, "3": 3.0}  # multiplicity by the entry of an atom with two unpaired electrons

Values = np.ndarray | Sequence[str | None]  # numbers, NaN where missing, or texts


def state_columns(names: Iterable[str], targets: Found) -> list[str]:
    """Return the names of columns of charge, multiplicity and spin, without those that are targets."""
    taken = {column for column, _, _ in targets}
    return [name for name in names if is_state_column(name) and name not in taken]


def stated_states(
    columns: Mapping[str, Values],
    structures: Sequence[StructureState],
    spin_is_2s: bool,
    fault: np.ndarray,
    why: list[str | None],
) -> StatedStates:
    """Read charge and multiplicity of n molecules; record values that are no numbers, or do not agree.

    Args:
        columns: the columns that `state_columns` names, n values each.
        structures: what the structure of each molecule says; empty if the geometry comes from no structure.
        spin_is_2s: `spin` is the number of unpaired electrons, not the multiplicity.
        fault: verdict on each molecule, as in `Molecules`; changed here.
        why: description of each fault; changed here.
    """
    read = {
        name: _numbers(name, values, fault, why)
        for name, values in sorted(columns.items())
        if is_state_column(name)
    }
    states = StatedStates.nothing(len(fault))
    _agree(states.charge, CHARGE_COLUMNS, BAD_CHARGE, read, fault, why)
    _agree(states.multiplicity, MULTIPLICITY_COLUMNS, BAD_MULTIPLICITY, read, fault, why)
    spins = np.full(len(fault), np.nan)
    _agree(spins, {SPIN_COLUMN}, BAD_MULTIPLICITY, read, fault, why)
    _fill(states.multiplicity, spins + spin_is_2s)
    if structures:
        states.structure[:] = [structure.charge for structure in structures]
        states.open_shell[:] = [structure.open_shell for structure in structures]
        _fill(states.multiplicity, np.array([structure.multiplicity for structure in structures]))
    return states


def with_record_states(
    molecules: Molecules, records: Sequence[Record | BadRecord], targets: Found, spin_is_2s: bool
) -> Molecules:
    """Return the molecules of some records with their charges and multiplicities."""
    good = [record if isinstance(record, Record) else None for record in records]
    names = {name for record in good if record for name in record.values}
    columns = {
        name: [record.values.get(name) if record else None for record in good]
        for name in state_columns(names, targets)
    }
    fault, why = molecules.fault.copy(), molecules.why.to_pylist()
    structures = [record.structure if record else NO_STATEMENT for record in good]
    stated = stated_states(columns, structures, spin_is_2s, fault, why)
    return replace(molecules, fault=fault, why=pa.array(why, pa.large_string()), stated=stated)


def with_spin_meaning(source: Source) -> Source:
    """Decide what `spin` means in a source that has it, and add a note about it.

    Raises:
        UserError: the source cannot be read.
    """
    names = state_columns(source.columns, source.targets)
    if not source.rows or not any(name.lower() == SPIN_COLUMN for name in names):
        return source
    other = replace(source, spin_is_2s=True)
    if _misfits(other) < _misfits(source):
        meaning, source = "2S, the number of unpaired electrons", other
    else:
        meaning = "the multiplicity, 2S + 1"
    name = printable(source.path.name)
    note = f"{name}: '{SPIN_COLUMN}' is taken as {meaning}, as its numbers of electrons ask for"
    return replace(source, notes=(*source.notes, note))


def _misfits(source: Source) -> int:
    """Number of the first molecules whose multiplicity is not possible."""
    order = [target.name for _, target, _ in source.targets]
    block = source.convert(source.stream(0).read(min(source.rows, LOOK)), 0, order)
    faults = settle(block.stated, block.z, block.z_count, block.smiles).faults
    return int((faults[BAD_MULTIPLICITY] & (block.fault == 0)).sum())


def block_state(mol: Any, block: str) -> StructureState:
    """Read the charge and the radicals of a mol block; without any it says nothing.

    Args:
        mol: RDKit's molecule of the block, not sanitised.
        block: the block. RDKit does not keep which radicals with two electrons are singlets.
    """
    charges = [atom.GetFormalCharge() for atom in mol.GetAtoms()]
    radicals = [number for atom in mol.GetAtoms() if (number := atom.GetNumRadicalElectrons())]
    if not any(charges) and not radicals:
        return NO_STATEMENT
    multiplicity = 2.0 if radicals == [1] else np.nan
    if radicals == [2] and (entry := RADICAL.search(block)):
        multiplicity = PAIRS.get(entry[1] or entry[2], np.nan)
    return StructureState(float(sum(charges)), multiplicity, bool(radicals) and bool(np.isnan(multiplicity)))


def smiles_states(smiles: Sequence[str | None]) -> list[StructureState]:
    """Read charge and unpaired electrons of SMILES from which geometries are made."""
    if not smiles:
        return []
    states = []
    with logged():
        for text in smiles:
            # an atom outside brackets has its normal valence: neither a charge nor an unpaired electron
            readable = text and "[" in text and text.isascii() and len(text) <= MAX_SMILES
            mol = chem().MolFromSmiles(text) if readable else None
            unpaired = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()) if mol else 0
            multiplicity = 2.0 if unpaired == 1 else np.nan
            charge = float(smiles_charge(text)) if text and text.strip() else np.nan
            states.append(StructureState(charge, multiplicity, unpaired > 1))
    return states


def sum_of_atoms(values: Any) -> float | None:
    """Sum the charges or moments of atoms, a whole number if rounding explains the rest; None without any."""
    numbers = np.zeros(0) if values is None else np.asarray(values, np.float64)
    if not numbers.any():
        return None
    total = float(numbers.sum())
    return float(round(total)) if abs(total - round(total)) <= ROUNDING else total


def _numbers(name: str, values: Values, fault: np.ndarray, why: list[str | None]) -> np.ndarray:
    """Return a column as float64, NaN where missing; a text that is no number becomes a fault."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    result = np.full(len(values), np.nan)
    reason = BAD_CHARGE if name.lower() in CHARGE_COLUMNS else BAD_MULTIPLICITY
    for row, text in enumerate(values):
        if text is not None and not is_missing(text) and not fault[row]:
            try:
                result[row] = to_float(text)
            except ValueError:
                fault[row], why[row] = REASONS.index(reason), f"{name}: '{text[:60]}'"
    return result


def _agree(
    into: np.ndarray,
    names: Iterable[str],
    reason: str,
    read: dict[str, np.ndarray],
    fault: np.ndarray,
    why: list[str | None],
) -> None:
    """Put the values of the columns called `names` into an array; values that differ become faults."""
    allowed = frozenset(names)
    for name, values in read.items():
        if name.lower() not in allowed:
            continue
        with np.errstate(invalid="ignore"):
            differs = (into != values) & ~np.isnan(into) & ~np.isnan(values) & (fault == 0)
        for row in np.flatnonzero(differs).tolist():
            fault[row] = REASONS.index(reason)
            why[row] = f"{name} is {values[row]:g}, another column says {into[row]:g}"
        _fill(into, values)


def _fill(into: np.ndarray, values: np.ndarray) -> None:
    """Replace NaN by the values of another array."""
    missing = np.isnan(into)
    into[missing] = values[missing]
