"""Shares of equal cost: which molecules of a global batch go to which process, and into which pass.

The cost of a molecule is predicted from its atoms and its tokens (`Costs`, made by `models/balance.py`), and
the molecules are dealt largest first, each to the lightest share: the heaviest then exceeds the mean by less
than the cost of one molecule, for molecules of like cost by far less. Everything is a function of the
recipe and the data, never of a clock, so a run that continues, or that is repeated, deals the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np


@dataclass(frozen=True)
class Costs:
    """Predicted cost of molecules, in any one unit.

    Attributes:
        atoms: cost of the graph of a molecule of n atoms at index n, float64 [most atoms + 1].
        token: cost of one token.
    """

    atoms: np.ndarray
    token: float

    def of(self, atoms: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Cost of molecules from their numbers of atoms and tokens, int64 [M] both: float64 [M]."""
        return self.atoms[atoms] + self.token * tokens


def deal(costs: np.ndarray, shares: int, least: int, most: int) -> list[np.ndarray]:
    """Deal molecules into shares of nearly equal cost.

    Args:
        costs: of each molecule [M].
        shares: how many.
        least: fewest molecules in one share; shares * least <= M.
        most: most molecules in one share; M <= shares * most.

    Returns:
        For each share the places of its molecules, ascending.
    """
    if shares == 1:
        return [np.arange(len(costs))]
    order = np.argsort(-costs, kind="stable").tolist()
    values = costs.tolist()
    members: list[list[int]] = [[] for _ in range(shares)]
    heap = [(0.0, share) for share in range(shares)]
    wanting = shares * least  # places that must still be filled
    for done, place in enumerate(order):
        if wanting == len(order) - done:  # the rest is just enough for the shares that have too few
            heap = [entry for entry in heap if len(members[entry[1]]) < least]
            heapify(heap)
        load, share = heappop(heap)
        own = members[share]
        wanting -= len(own) < least
        own.append(place)
        if len(own) < most:
            heappush(heap, (load + values[place], share))
    return [np.array(sorted(own), np.int64) for own in members]


def imbalance(loads: np.ndarray) -> float:
    """By how much the heaviest load exceeds the mean: 0.02 says that the others wait 2 % of their time."""
    mean = loads.mean() if len(loads) else 0.0
    return float(loads.max() / mean - 1.0) if mean else 0.0
