"""The table of targets: canonical names, units, and how each scales with the molecule.

All data after the readers is in the units of this table, so a unit is converted once and in one place (see
`units`). `kind` tells read-outs and references how to treat a target: `extensive` (a sum over atoms) or
`intensive`; `dipole` (mu) and `r2` have physics of their own; a `class` is one of some names. `READOUTS`
lists the read-outs (`models/readout.py`) that each kind may take.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmgnn_dist.chem.units import DIMENSIONS, known_factor, own_unit, per_atom_cure
from mmgnn_dist.errors import UserError

CLASS = "class"
UNDECIDED = ""  # kind of a target until `prepare` has looked at its labels


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: its name.
        unit: its unit; "" for classes.
        kind: a key of `READOUTS`, or `UNDECIDED`.
        dimension: its dimension in `units.DIMENSIONS`, "" for any other.
        classes: names of the classes of a target of kind class.
    """

    name: str
    unit: str
    kind: str
    dimension: str = ""
    classes: tuple[str, ...] = ()


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
    "dipole": ("dipole_norm", "dipole", "dipole_vectors", "mean", "attention"),
    "r2": ("r2", "sum"),
    CLASS: ("mean", "attention", "sum"),  # of the logit of each class
}


def readout_for(name: str, kind: str, wanted: str | None = None) -> str:
    """Return the read-out of a target: the wanted one, or the default of its kind.

    A target outside the table may also be a sum, since sets of earlier versions call all of them intensive.

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


def target_for(
    name: str, unit: str, kind: str | None = None, like: Target | None = None
) -> tuple[Target, float]:
    """Return the target of a column with values in `unit`, and the factor to the target's unit.

    A name outside the table is allowed: it keeps its unit, and without a kind it is `UNDECIDED`.

    Args:
        name: name of the target.
        unit: unit of the column.
        kind: kind that the user declares; None for the one of the table.
        like: a target of the table whose unit one outside the table takes, if it has the same dimension.

    Raises:
        UserError: an unknown unit, a unit of another dimension than the target's, or a kind that is not the
            target's.
    """
    listed = TARGETS.get(name)
    if listed:
        if kind not in (None, listed.kind):
            raise UserError(
                f"data.targets.{name}.kind={kind}: {name} is {listed.kind}; leave it out, or declare a "
                f"target of another name with column: {name}"
            )
        return listed, known_factor(name, str(unit), listed.dimension)
    own = own_unit(name, str(unit))
    if own.per_atom and kind == "extensive":
        raise UserError(per_atom_cure(name, str(unit)))
    if like and own.dimension == like.dimension:
        factor = DIMENSIONS[own.dimension][own.spelled]
        return Target(name, like.unit, kind or UNDECIDED, own.dimension), factor
    kind = kind or ("intensive" if own.per_atom else UNDECIDED)
    return Target(name, own.spelled, kind, own.dimension), 1.0


def is_unit(name: str, unit: str) -> bool:
    """Whether a unit that a file gives can be read as one of the target `name`."""
    try:
        target_for(name, unit)
    except UserError:
        return False
    return True


def accepted_units(name: str) -> list[str]:
    """Return the common units of the target `name` (of all dimensions for a name outside the table)."""
    if name in TARGETS:
        return list(DIMENSIONS[TARGETS[name].dimension])
    return [unit for units in DIMENSIONS.values() for unit in units]
