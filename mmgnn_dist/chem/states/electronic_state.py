"""Charge and multiplicity of molecules: what a source states, what follows, and what contradicts it.

The charge is the stated one, else that of the structure from which the geometry comes (a mol block with
charges, a SMILES), else 0. The multiplicity is the stated one, else 1 for an even number of electrons. For an
odd number it is 2 where the charge is known, and `assumed` marks the molecule. Where nothing is known, an odd
number of electrons may mean an ion as well as a radical: the molecule stays a neutral singlet, and so does an
ion by a SMILES that stands beside the geometry; `unstated` marks both.

A charge that contradicts the SMILES, and a multiplicity that the number of electrons does not allow, are
faults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_CHARGE = 20  # largest absolute charge, in e
MAX_MULTIPLICITY = 21  # 20 unpaired electrons
BAD_CHARGE = "invalid charge"
CONTRADICTION = "charge contradicts structure"
BAD_MULTIPLICITY = "invalid multiplicity"
CHARGE_COLUMNS = frozenset({"charge", "total_charge", "net_charge", "pubchem_total_charge"})
MULTIPLICITY_COLUMNS = frozenset({"multiplicity", "spin_multiplicity"})
SPIN_COLUMN = "spin"
CHARGED_ATOM = r"\[[^\[\]]*[-+]"  # in a SMILES, a sign inside brackets is a charge
# bounded: a search for endless runs would take quadratic time on a long text
_CHARGE = re.compile(r"\[[^\[\]]*?([-+]{1,15})(\d{0,3})(?::\d+)?\]")


def is_state_column(name: str) -> bool:
    """Whether a column of this name states charge, multiplicity or spin; the case does not matter."""
    return name.lower() in (CHARGE_COLUMNS | MULTIPLICITY_COLUMNS | {SPIN_COLUMN})


@dataclass(frozen=True)
class StructureState:
    """What a structure says of one molecule, NaN where it says nothing; as in `StatedStates`."""

    charge: float = np.nan
    multiplicity: float = np.nan
    open_shell: bool = False


NO_STATEMENT = StructureState()


@dataclass(frozen=True)
class StatedStates:
    """Charge and multiplicity of n molecules as their source states them; NaN where it does not.

    Attributes:
        charge: stated total charge in e, float64 [n]; may be no whole number.
        multiplicity: stated spin multiplicity 2S + 1, float64 [n]; may be no whole number.
        structure: charge of the structure that the geometry belongs to, float64 [n].
        open_shell: whether that structure has unpaired electrons and does not say how they couple, bool [n].
    """

    charge: np.ndarray
    multiplicity: np.ndarray
    structure: np.ndarray
    open_shell: np.ndarray

    @classmethod
    def nothing(cls, n: int) -> StatedStates:
        """Return the states of n molecules of a source that states none."""
        return cls(np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, bool))

    def keep(self, mask: np.ndarray | slice) -> StatedStates:
        """Return the molecules of a slice or of indices, or those where `mask`, bool [n], is true."""
        return StatedStates(*(values[mask] for values in vars(self).values()))


@dataclass(frozen=True)
class States:
    """Charge and multiplicity of n molecules, and their faults.

    Attributes:
        charge: int8 [n]; 0 where the stated one is invalid.
        multiplicity: int8 [n]; 1 where the stated one is invalid.
        faults: reason and the molecules that it sets aside, bool [n].
        unstated: ions and odd numbers of electrons without any statement, bool [n].
        assumed: molecules whose multiplicity is the lowest possible one, for want of a stated one, bool [n].
    """

    charge: np.ndarray
    multiplicity: np.ndarray
    faults: dict[str, np.ndarray]
    unstated: np.ndarray
    assumed: np.ndarray


@dataclass(frozen=True)
class TrainedStates:
    """Charges and multiplicities of the molecules on which a model was trained."""

    charges: tuple[int, ...]
    multiplicities: tuple[int, ...]

    @property
    def neutral_singlets(self) -> bool:
        """Whether all of them were neutral singlets."""
        return self.charges == (0,) and self.multiplicities == (1,)

    def has(self, charge: np.ndarray, multiplicity: np.ndarray) -> np.ndarray:
        """Return which of n molecules have a charge and a multiplicity that were trained on, bool [n]."""
        return np.isin(charge, self.charges) & np.isin(multiplicity, self.multiplicities)


def settle(stated: StatedStates, z: np.ndarray, z_count: np.ndarray, smiles: pa.Array) -> States:
    """Decide on charge and multiplicity of each of n molecules.

    Args:
        stated: what their source states.
        z: atomic numbers of all molecules, concatenated.
        z_count: number of atoms of each molecule, int64 [n].
        smiles: SMILES of each molecule, nullable.
    """
    protons, written = proton_counts(z, z_count), smiles_charges(smiles)
    has_charge, has_structure = ~np.isnan(stated.charge), ~np.isnan(stated.structure)
    has_multiplicity = ~np.isnan(stated.multiplicity)
    known = has_charge | has_structure
    charge = np.where(has_charge, stated.charge, np.where(has_structure, stated.structure, 0.0))
    highest = np.fmax(np.fmax(stated.charge, stated.structure), written)
    lowest = np.fmin(np.fmin(stated.charge, stated.structure), written)
    with np.errstate(invalid="ignore"):  # infinite charges are faults
        electrons = protons - charge
        odd = electrons % 2 == 1
        multiplicity = np.where(has_multiplicity, stated.multiplicity, np.where(odd & known, 2.0, 1.0))
        misfit = (multiplicity % 2 == electrons % 2) | (multiplicity > electrons + 1)
    bad_charge = ~_whole(charge, -MAX_CHARGE, MAX_CHARGE) | (electrons < 0)
    bad_multiplicity = ~_whole(multiplicity, 1, MAX_MULTIPLICITY) | (has_multiplicity & misfit)
    sound = ~(bad_charge | bad_multiplicity)
    return States(
        np.where(sound, charge, 0).astype(np.int8),
        np.where(sound, multiplicity, 1).astype(np.int8),
        {BAD_CHARGE: bad_charge, CONTRADICTION: highest > lowest, BAD_MULTIPLICITY: bad_multiplicity},
        ~known & ((odd & ~has_multiplicity) | (np.nan_to_num(written) != 0)),
        ~has_multiplicity & ((known & odd) | stated.open_shell),
    )


def describe_state(reason: str, stated: StatedStates, z: np.ndarray, smiles: pa.Array) -> str:
    """Describe the fault of one molecule for its quarantine row; arguments as in `settle`, with n = 1."""
    structure, written = stated.structure[0], smiles_charges(smiles)[0]
    charge = next((value for value in (stated.charge[0], structure) if not np.isnan(value)), 0.0)
    electrons = z.sum() - charge
    if reason == BAD_CHARGE:
        return f"{charge:g}: it is a whole number from -{MAX_CHARGE} to {MAX_CHARGE}, at most {z.sum()} here"
    if reason == BAD_MULTIPLICITY:
        allowed = "2, 4, 6 and so on" if electrons % 2 else "1, 3, 5 and so on"
        return f"{stated.multiplicity[0]:g}: {electrons:g} electrons allow {allowed}"
    named = (("stated", stated.charge[0]), ("of its structure", structure), ("of its SMILES", written))
    charges = ", ".join(f"{value:g} {name}" for name, value in named if not np.isnan(value))
    multiplicity = "" if np.isnan(stated.multiplicity[0]) else f"multiplicity {stated.multiplicity[0]:g}; "
    return f"charge {charges or 'not stated'}; {multiplicity}{electrons:g} electrons"


def proton_counts(z: np.ndarray, z_count: np.ndarray) -> np.ndarray:
    """Sum of the atomic numbers of each molecule, float64 [n]: its electrons if it is neutral.

    Args:
        z: atomic numbers of all molecules, concatenated.
        z_count: number of atoms of each molecule, int64 [n].
    """
    molecule = np.repeat(np.arange(len(z_count)), z_count)
    return np.bincount(molecule, z, len(z_count))


def smiles_charges(smiles: pa.Array) -> np.ndarray:
    """Net formal charge of each SMILES, float64 [n]; NaN for null.

    It is the sum over the bracket atoms, the only place of a charge in SMILES (OpenSMILES, section 3.1.3).
    """
    charges = np.where(np.asarray(smiles.is_valid(), dtype=bool), 0.0, np.nan)
    charged = np.asarray(pc.match_substring_regex(smiles, CHARGED_ATOM).fill_null(False), dtype=bool)
    for row in np.flatnonzero(charged).tolist():
        charges[row] = smiles_charge(smiles[row].as_py())
    return charges


def smiles_charge(text: str) -> int:
    """Net formal charge of one SMILES; words after the first, such as a name, are left out."""
    signs = _CHARGE.findall(text.split(maxsplit=1)[0])
    return sum((1 if sign[0] == "+" else -1) * int(digits or len(sign)) for sign, digits in signs)


def _whole(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Whether each value is a whole number from `low` to `high`, bool [n]."""
    return (values == np.round(values)) & (values >= low) & (values <= high)
