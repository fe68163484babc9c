"""Copies of a geometry: turned, moved, mirrored, with its atoms in another order, or slightly shaken.

A copy has the same interatomic distances. Candidates are molecules of one composition whose sums over all
pairs of atoms agree (of d, d², 1/d and Z Z'/d, d the distance); their sorted distances decide.
"""

from __future__ import annotations

import numpy as np

from mmgnn_dist.data.inspect.leaks.content import Content

SMALLEST = 4  # atoms; smaller molecules have too few distances to be told apart
NEAR = 5e-4  # relative difference of the sums of two copies
SAME = 0.02  # Å, largest difference of two sorted distances of copies
BATCH = 1 << 22  # distances computed at a time


def geometry_copies(content: Content) -> np.ndarray:
    """Return the pairs of molecules with the same geometry, int64 [P, 2]."""
    sums = _sums(content)
    rows = np.flatnonzero(content.sizes >= SMALLEST)
    _, formula = np.unique(content.composition, axis=0, return_inverse=True)
    formula = formula.ravel()
    rows = rows[np.lexsort((sums[rows, 0], formula[rows]))]
    pairs = []
    for shift in range(1, len(rows)):
        first, second = rows[:-shift], rows[shift:]
        near = (formula[first] == formula[second]) & (
            np.abs(sums[first, 0] - sums[second, 0]) <= NEAR * sums[first, 0]
        )
        if not near.any():
            break
        alike = near & (np.abs(sums[first] - sums[second]) <= NEAR * np.abs(sums[first])).all(axis=1)
        pairs.append(np.column_stack([first[alike], second[alike]]))
    candidates = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    start = np.cumsum(content.sizes) - content.sizes
    kept = [
        np.abs(_sorted_distances(content, start, one) - _sorted_distances(content, start, other)).max()
        <= SAME
        for one, other in candidates.tolist()
    ]
    return candidates[np.array(kept, bool)]


def _sums(content: Content) -> np.ndarray:
    """Sums of d, d², 1/d and Z Z'/d over the pairs of atoms of each molecule, float64 [N, 4]."""
    sums = np.zeros((len(content.sizes), 4))
    start = np.cumsum(content.sizes) - content.sizes
    for size in np.unique(content.sizes[content.sizes >= SMALLEST]).tolist():
        rows = np.flatnonzero(content.sizes == size)
        first, second = np.triu_indices(size, 1)
        for part in np.array_split(rows, -(-len(rows) * len(first) // BATCH)):
            atoms = start[part][:, None] + np.arange(size)
            pos, z = content.pos[atoms].astype(np.float64), content.z[atoms].astype(np.float64)
            distance = np.linalg.norm(pos[:, first] - pos[:, second], axis=2)
            charges = z[:, first] * z[:, second]
            for column, term in enumerate((distance, distance**2, 1 / distance, charges / distance)):
                sums[part, column] = term.sum(axis=1)
    return sums


def _sorted_distances(content: Content, start: np.ndarray, row: int) -> np.ndarray:
    size = int(content.sizes[row])
    pos = content.pos[start[row] : start[row] + size].astype(np.float64)
    first, second = np.triu_indices(size, 1)
    return np.sort(np.linalg.norm(pos[first] - pos[second], axis=1))
