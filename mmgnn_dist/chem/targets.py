"""The table of targets: canonical names, units, and how each scales with the molecule.

All data after the readers is in the units of this table, so a unit is converted once and in one place.
Constants are CODATA 2018; the calorie is the thermochemical one. `kind` tells read-outs and references how
to treat a target: `extensive` (a sum over atoms) or `intensive`; `dipole` (mu) and `r2` have physics of
their own. `READOUTS` lists the read-outs (`models/readout.py`) that each kind may take.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from mmgnn_dist.errors import UserError, nearest

HARTREE_EV = 27.211386245988
BOHR_ANGSTROM = 0.529177210903
AVOGADRO = 6.02214076e23
EV_JOULE = 1.602176634e-19
CALORIE_JOULE = 4.184
EV_KJ_MOL = EV_JOULE * AVOGADRO / 1000
DEBYE_EA0 = 2.541746473  # one atomic unit of dipole moment in D
DEBYE_EANGSTROM = DEBYE_EA0 / BOHR_ANGSTROM

# dimension -> {unit: factor to the first unit of the dimension, which is the canonical one}
DIMENSIONS: dict[str, dict[str, float]] = {
    "energy": {
        "eV": 1.0,
        "meV": 1e-3,
        "Hartree": HARTREE_EV,
        "Rydberg": HARTREE_EV / 2,
        "kJ/mol": 1 / EV_KJ_MOL,
        "kcal/mol": CALORIE_JOULE / EV_KJ_MOL,
    },
    "dipole": {"D": 1.0, "e*a0": DEBYE_EA0, "e*Å": DEBYE_EANGSTROM},
    "volume": {"a0^3": 1.0, "Å^3": BOHR_ANGSTROM**-3},
    "area": {"a0^2": 1.0, "Å^2": BOHR_ANGSTROM**-2},
    "heat capacity": {
        "cal/mol/K": 1.0,
        "J/mol/K": 1 / CALORIE_JOULE,
        "kcal/mol/K": 1000.0,
        "kJ/mol/K": 1000 / CALORIE_JOULE,
        "eV/K": EV_KJ_MOL * 1000 / CALORIE_JOULE,
    },
    "none": {"1": 1.0},
}

# Other ways of writing a unit, in lower case; "a.u." depends on the target's dimension and is below.
ALIASES = {
    "ha": "Hartree",
    "eh": "Hartree",
    "hartrees": "Hartree",
    "ry": "Rydberg",
    "debye": "D",
    "e*bohr": "e*a0",
    "ea0": "e*a0",
    "e*angstrom": "e*Å",
    "e*a": "e*Å",
    "eå": "e*Å",
    "eangstrom": "e*Å",
    "bohr^3": "a0^3",
    "bohr3": "a0^3",
    "bohr**3": "a0^3",
    "a0**3": "a0^3",
    "a0³": "a0^3",
    "angstrom^3": "Å^3",
    "angstrom**3": "Å^3",
    "a^3": "Å^3",
    "ang^3": "Å^3",
    "å³": "Å^3",
    "bohr^2": "a0^2",
    "bohr2": "a0^2",
    "bohr**2": "a0^2",
    "a0**2": "a0^2",
    "a0²": "a0^2",
    "angstrom^2": "Å^2",
    "angstrom**2": "Å^2",
    "a^2": "Å^2",
    "ang^2": "Å^2",
    "å²": "Å^2",
    "cal/(mol*k)": "cal/mol/K",
    "cal/(mol k)": "cal/mol/K",
    "j/(mol*k)": "J/mol/K",
    "j/(mol k)": "J/mol/K",
    "dimensionless": "1",
    "none": "1",
}
ATOMIC_UNITS = {"energy": "Hartree", "dipole": "e*a0", "volume": "a0^3", "area": "a0^2"}
CASED = {"mev": "meV"}  # the case changes the meaning of this prefix; mega is not accepted


@dataclass(frozen=True)
class Target:
    """One target: its name, canonical unit, kind and dimension."""

    name: str
    unit: str
    kind: str
    dimension: str


def _energy(name: str, kind: str = "extensive") -> Target:
    return Target(name, "eV", kind, "energy")


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("mu", "D", "dipole", "dipole"),
        Target("alpha", "a0^3", "extensive", "volume"),
        _energy("homo", "intensive"),
        _energy("lumo", "intensive"),
        _energy("gap", "intensive"),
        Target("r2", "a0^2", "r2", "area"),
        _energy("zpve"),
        _energy("u0"),
        _energy("u298"),
        _energy("h298"),
        _energy("g298"),
        _energy("energy"),
        Target("cv", "cal/mol/K", "extensive", "heat capacity"),
    )
}


# read-outs that make physical sense for a kind, the default first
READOUTS: dict[str, tuple[str, ...]] = {
    "extensive": ("sum",),
    "intensive": ("mean", "attention"),
    "dipole": ("dipole", "dipole_vectors", "mean", "attention"),
    "r2": ("r2", "sum"),
}


def readout_for(name: str, kind: str, wanted: str | None = None) -> str:
    """Return the read-out of a target: the wanted one, or the default of its kind.

    A target outside the table counts as intensive, since its kind is not known; it may also be a sum.

    Raises:
        UserError: a read-out that makes no physical sense for the target.
    """
    allowed = READOUTS[kind] if name in TARGETS else (*READOUTS[kind], "sum")
    if wanted is not None and wanted not in allowed:
        raise UserError(
            f"model.readout.{name}={wanted} makes no physical sense for a target that is {kind}: "
            f"use {' or '.join(dict.fromkeys(allowed))}, or leave it out for {allowed[0]}"
        )
    return wanted or allowed[0]


def target_for(name: str, unit: str) -> tuple[Target, float]:
    """Return the target of a column with values in `unit`, and the factor to its canonical unit.

    A name outside the table is allowed: it takes the canonical unit of its dimension and is intensive.

    Raises:
        UserError: an unknown unit, or a unit of another dimension than the target's.
    """
    listed = TARGETS.get(name)
    dimension, spelled = _find_unit(name, str(unit), listed.dimension if listed else None)
    target = listed or Target(name, next(iter(DIMENSIONS[dimension])), "intensive", dimension)
    return target, DIMENSIONS[dimension][spelled]


def accepted_units(name: str) -> list[str]:
    """Return the units allowed for the target `name` (any known unit for a name outside the table)."""
    if name in TARGETS:
        return list(DIMENSIONS[TARGETS[name].dimension])
    return [unit for units in DIMENSIONS.values() for unit in units]


def _find_unit(name: str, unit: str, wanted: str | None) -> tuple[str, str]:
    """Return (dimension, canonical spelling) of a unit as the user wrote it."""
    text = unit.strip()
    lowered = unicodedata.normalize("NFC", text).lower().replace("·", "*")  # Å has two code points
    if lowered in ("a.u.", "au", "atomic units"):
        if wanted not in ATOMIC_UNITS:
            raise UserError(f"unit '{unit}' of {name} is ambiguous: name it, for example Hartree")
        return wanted, ATOMIC_UNITS[wanted]
    for dimension, units in DIMENSIONS.items():
        folded = {spelled.lower(): spelled for spelled in units}
        spelled = folded.get(lowered) or ALIASES.get(lowered, "")
        if lowered in CASED and text != CASED[lowered]:
            spelled = ""
        if spelled in units:
            if wanted not in (None, dimension):
                break
            return dimension, spelled
    allowed = accepted_units(name)
    raise UserError(
        f"unit '{unit}' does not fit {name}{nearest(text, allowed)}: use one of {', '.join(allowed)}"
    )
