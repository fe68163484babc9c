"""Drawings that are given as geometries: all z are 0, and bonds are as no flat molecule has them.

Flat molecules exist (water, benzene). A drawing shows itself by a carbon with four neighbours in the plane,
by a hydrogen too far from its atom, or by two atoms too near: drawings have bonds of one length, often 1.5 or
1.0 Å.
"""

from __future__ import annotations

import numpy as np

CARBON, HYDROGEN = 6, 1
NEIGHBOURS = 3  # most atoms around a carbon in a plane
SPREAD = 1.25  # longest by shortest bond of an atom in a drawing
BONDED = 1.98  # Å; longer than bonds of carbon with C, N, O, F, shorter than a distance over two bonds
BONDED_H = 1.39  # Å
FARTHEST_H = 1.3  # Å from C, N, O or F
NEAREST = 1.05  # Å between atoms other than hydrogen; N2 has 1.10
LIGHT = (6, 7, 8, 9)


def flat_drawings(z: np.ndarray, count: np.ndarray, pos: np.ndarray) -> np.ndarray:
    """Return which molecules are drawings, bool [n].

    Args:
        z: atomic numbers of all molecules, concatenated.
        count: number of atoms of each molecule, int64 [n].
        pos: finite positions of all atoms, [atoms, 3], Å.
    """
    starts = np.cumsum(count) - count
    molecule = np.repeat(np.arange(len(count)), count)
    raised = np.bincount(molecule[pos[:, 2] != 0], minlength=len(count))
    drawn = np.zeros(len(count), bool)
    for row in np.flatnonzero((raised == 0) & (count > 2)).tolist():
        atoms = slice(starts[row], starts[row] + count[row])
        drawn[row] = _is_drawn(z[atoms], pos[atoms, :2])
    return drawn


def _is_drawn(z: np.ndarray, places: np.ndarray) -> bool:
    for atom in range(len(z)):
        distance = np.hypot(*(places - places[atom]).T)
        distance[atom] = np.inf
        nearest = int(np.argmin(distance))
        shortest = distance[nearest]
        if z[atom] == CARBON:
            bonded = np.isin(z, LIGHT) & (distance < BONDED) | (z == HYDROGEN) & (distance < BONDED_H)
            around = max(int(bonded.sum()), int((distance <= SPREAD * shortest).sum()))
            if around > NEIGHBOURS:
                return True
        if z[atom] == HYDROGEN and z[nearest] in LIGHT and shortest > FARTHEST_H:
            return True
        if z[atom] != HYDROGEN:
            heavy = distance[z != HYDROGEN]
            if len(heavy) and heavy.min() < NEAREST:
                return True
    return False
