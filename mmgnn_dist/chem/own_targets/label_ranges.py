"""Physical ranges of the known targets: the check that finds a wrong unit before it is learned.

The ranges are wide, so that the median of no set of molecules is outside, and a factor between units (eV and
Hartree: 27) is seen. Frontier orbitals lie between the first ionisation energy of helium and those of ions;
no molecule is less polarisable per atom than helium (1.38 a0^3); a vibration adds at most R to the heat
capacity (3 R an atom), and H2's 4401 cm^-1 bounds the zero-point energy. The total energy of an atom is above
that of Thomas and Fermi, 0.7687 Z^(7/3) Hartree below zero (Lieb and Simon 1977), up to relativity.
"""

from __future__ import annotations

import numpy as np

from mmgnn_dist.chem.targets import Target
from mmgnn_dist.chem.units import DIMENSIONS, HARTREE_EV

# (low, high) in the target's unit, of the whole molecule or per atom
WHOLE = {"mu": (0.0, 1e3), "homo": (-45.0, 15.0), "lumo": (-40.0, 35.0), "gap": (-5.0, 45.0)}
PER_ATOM = {"alpha": (1.0, 500.0), "r2": (0.1, 1e5), "zpve": (0.001, 0.8), "cv": (0.05, 8.0)}
TOTAL = ("energy", "u0", "u298", "h298", "g298")
THOMAS_FERMI = 1.2 * 0.7687 * HARTREE_EV  # eV, with a margin for relativity


def out_of_range(
    column: str, target: Target, factor: float, y: np.ndarray, z: np.ndarray, counts: np.ndarray
) -> str:
    """Return what is wrong with the unit of a known target; "" if its labels are in range.

    A target without a range, and labels that no other unit brings into it, are not objected to.

    Args:
        column: name of the column of the source.
        target: the target.
        factor: factor by which the values of the column were multiplied.
        y: its labels in its unit, NaN where missing [n].
        z: atomic numbers of all molecules, concatenated.
        counts: atoms of each molecule [n].
    """
    scale, (low, high) = np.ones(len(y)), WHOLE.get(target.name, PER_ATOM.get(target.name, (-1.0, 1.0)))
    if target.name in PER_ATOM:
        scale = np.maximum(counts, 1).astype(float)
    elif target.name in TOTAL:
        molecule = np.repeat(np.arange(len(counts)), counts)
        charge = np.clip(z, 1, None).astype(float)
        scale = np.maximum(np.bincount(molecule, THOMAS_FERMI * charge ** (7 / 3), len(counts)), 1.0)
    elif target.name not in WHOLE:
        return ""
    labelled = np.isfinite(y)
    if not labelled.any():
        return ""
    middle = float(np.median(y[labelled] / scale[labelled]))
    if low <= middle <= high:
        return ""
    units = DIMENSIONS[target.dimension]
    likely = next((unit for unit, other in units.items() if low <= middle / factor * other <= high), None)
    if likely is None:
        return ""
    shown = float(np.median(y[labelled]))
    given = next((unit for unit, other in units.items() if other == factor), "its unit")
    return (
        f"column '{column}', read in {given}, gives {target.name} a median of {shown:.4g} {target.unit}, "
        f"which no molecules have: they look like {likely}: give data.units.{column}={likely}, or declare it "
        "under another name with a kind to take it as it is"
    )
