"""Checks of molecules: which molecules of a block are fit for training, and why the others are not.

All checks work on flat arrays. Only the first reason that applies to a molecule is reported. A missing
target (null, NaN) is no fault, because training masks it; an infinite target is a fault.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow.compute as pc

from mmgnn_dist.chem.elements import MAX_Z, NUMBERS, SYMBOLS
from mmgnn_dist.chem.flat import flat_drawings
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.states.electronic_state import (
    BAD_CHARGE,
    BAD_MULTIPLICITY,
    CONTRADICTION,
    TrainedStates,
    describe_state,
    settle,
)

HUGE = 1e4  # Å
LARGEST = float(np.finfo(np.float32).max)  # of a target: models are trained in single precision
OVERLAP = 0.2  # Å; the shortest bond has 0.74 Å

EXCLUDED = "uncharacterized"  # its data set advises against it; the molecule is not damaged
DUPLICATE = "duplicate id"
# faults that readers find before there is a molecule to check
UNREADABLE = "unreadable record"
OVERSIZED = "oversized record"
BOMB = "archive bomb"
DAMAGED = "damaged file"
PERIODIC = "periodic structure"
FLAT = "2D coordinates"
NO_STRUCTURE = "invalid SMILES"
NO_CONFORMER = "no conformer"
BAD_TARGET = "unreadable target"
UNSEEN = "element not trained on"
NO_HYDROGENS = "missing hydrogens"
NO_ELEMENT = "unknown element"
OTHER_ATOMS = "contradictory identity"  # its SMILES, formula or InChI has other atoms than its geometry
UNSEEN_STATE = "charge or multiplicity not trained on"
NO_CHARGE = "charge not given"
ABSURD = "absurd label"
TOO_LONG = "text too long"
REASONS = (
    "",
    "no id",
    "zero atoms",
    "lengths differ",
    NO_ELEMENT,
    "non-finite coordinates",
    "huge coordinates",
    "overlapping atoms",
    "infinite target",
    EXCLUDED,
    UNREADABLE,
    OVERSIZED,
    BOMB,
    DAMAGED,
    PERIODIC,
    FLAT,
    NO_STRUCTURE,
    NO_CONFORMER,
    BAD_TARGET,
    UNSEEN,
    NO_HYDROGENS,
    BAD_CHARGE,
    CONTRADICTION,
    BAD_MULTIPLICITY,
    UNSEEN_STATE,
    NO_CHARGE,
    ABSURD,
    OTHER_ATOMS,
)
OF_STATE = frozenset({BAD_CHARGE, CONTRADICTION, BAD_MULTIPLICITY, UNSEEN_STATE, NO_CHARGE})


class BadRecord(Exception):
    """A record from which no molecule can be made.

    Args:
        reason: one of `REASONS`.
        detail: what exactly is wrong, in one line.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type[BadRecord], tuple[str, str]]:
        return BadRecord, (self.reason, self.detail)


def check_molecules(
    molecules: Molecules, elements: Collection[str] | None = None, trained: TrainedStates | None = None
) -> np.ndarray:
    """Return the index into `REASONS` of each molecule's fault, int8 [n]; 0 where there is none.

    Args:
        molecules: the block to check.
        elements: symbols of the allowed elements; None allows all.
        trained: the allowed charges and multiplicities; None allows all.
    """
    n = len(molecules)
    verdict = molecules.fault.astype(np.int8)

    def flag(where: np.ndarray, reason: str) -> None:
        verdict[where & (verdict == 0)] = REASONS.index(reason)

    counts, coordinates = molecules.z_count, molecules.pos
    atom_of = np.repeat(np.arange(n), counts)
    axis_of = np.repeat(np.arange(n), molecules.pos_count)
    finite = np.isfinite(coordinates)

    flag(_flags(pc.equal(molecules.id, "").fill_null(True)), "no id")
    flag(counts == 0, "zero atoms")
    flag((molecules.pos_count != 3 * counts) | molecules.ragged, "lengths differ")
    flag(_any(atom_of, (molecules.z < 1) | (molecules.z > MAX_Z), n), NO_ELEMENT)
    flag(_any(axis_of, ~finite, n), "non-finite coordinates")
    flag(_any(axis_of, finite & (np.abs(coordinates) > HUGE), n), "huge coordinates")
    sound = verdict == 0
    sound_pos = coordinates[np.repeat(sound, molecules.pos_count)].reshape(-1, 3)
    flag(_overlaps(sound_pos, np.repeat(np.flatnonzero(sound), counts[sound]), n), "overlapping atoms")
    sound = verdict == 0
    drawn = flat_drawings(
        molecules.z[np.repeat(sound, counts)],
        counts[sound],
        coordinates[np.repeat(sound, molecules.pos_count)].reshape(-1, 3),
    )
    flag(np.isin(np.arange(n), np.flatnonzero(sound)[drawn]), FLAT)
    flag((np.abs(molecules.y) > LARGEST).any(axis=1), "infinite target")
    states = settle(molecules.stated, molecules.z, molecules.z_count, molecules.smiles)
    for reason, where in states.faults.items():
        flag(where, reason)
    flag(molecules.excluded, EXCLUDED)
    if elements is not None:
        allowed = np.isin(molecules.z, [NUMBERS[symbol] for symbol in elements])
        flag(_any(atom_of, ~allowed, n), UNSEEN)
    if trained is not None:
        if not trained.neutral_singlets:  # else the model saw such molecules as neutral singlets too
            flag(states.unstated, NO_CHARGE)
        flag(~trained.has(states.charge, states.multiplicity), UNSEEN_STATE)
    return verdict


def detail(molecules: Molecules, index: int, reason: str) -> str:
    """Describe the fault of one molecule for its quarantine row."""
    if molecules.fault[index]:
        return molecules.why[index].as_py() or ""
    counts, sizes = molecules.z_count, molecules.pos_count
    z = molecules.z[counts[:index].sum() :][: counts[index]]
    pos = molecules.pos[sizes[:index].sum() :][: sizes[index]]
    if reason == "lengths differ":
        uneven = ", not in triples" if molecules.ragged[index] else ""
        return f"{len(pos)} coordinates{uneven} for {len(z)} atoms"
    if reason == UNSEEN:
        return "atoms of " + ", ".join(SYMBOLS[number] for number in np.unique(z))
    if reason in OF_STATE:
        stated = molecules.stated.keep(slice(index, index + 1))
        return describe_state(reason, stated, z, molecules.smiles.slice(index, 1))
    if reason == NO_ELEMENT:
        wrong = np.flatnonzero((z < 1) | (z > MAX_Z))[0]
        return f"atom {wrong + 1}: atomic number {z[wrong]}"
    if reason == "non-finite coordinates":
        return f"atom {np.flatnonzero(~np.isfinite(pos))[0] // 3 + 1}"
    if reason == "huge coordinates":
        return f"{np.abs(pos).max():.4g} Å"
    if reason == FLAT:
        return "all z are 0, with bonds as in a drawing: give SMILES to have a conformer made"
    if reason == "overlapping atoms":
        return f"two atoms less than {OVERLAP} Å apart"
    return ""


def _flags(mask: object) -> np.ndarray:
    return np.asarray(mask, dtype=bool)


def _any(group: np.ndarray, bad: np.ndarray, n: int) -> np.ndarray:
    """For each molecule, whether any of its entries is bad."""
    return np.bincount(group[bad], minlength=n) > 0


def _overlaps(pos: np.ndarray, molecule: np.ndarray, n: int) -> np.ndarray:
    """Return which molecules have two atoms closer than `OVERLAP`, bool [n].

    Atoms are sorted along x within their molecule. Each atom is compared with the next one, then with the
    second next, and so on, until no pair of the same molecule is near along x.
    """
    result = np.zeros(n, bool)
    order = np.lexsort((pos[:, 0], molecule))
    pos, molecule = pos[order], molecule[order]
    for shift in range(1, len(pos)):
        near = (molecule[shift:] == molecule[:-shift]) & (pos[shift:, 0] - pos[:-shift, 0] < OVERLAP)
        first = np.flatnonzero(near)
        if not len(first):
            break
        squared = ((pos[first + shift] - pos[first]) ** 2).sum(axis=1)
        result[molecule[first[squared < OVERLAP**2]]] = True
    return result
