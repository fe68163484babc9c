"""Shares of equal cost: which molecules of a global batch go to which process, and into which pass.

The cost of a molecule is predicted from its atoms and its tokens (`Costs`, made by `models/balance.py`). The
molecules are dealt largest first, each to the lightest share. The heaviest share then exceeds the mean by
less than the cost of one molecule; if the molecules have similar costs, by far less. The deal depends on the
recipe and the data only, never on a clock, so it is the same in a resumed or repeated run.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np


@dataclass(frozen=True)
class Costs:
    """Predicted cost of molecules, in an arbitrary unit.

    Attributes:
        atoms: cost of the graph of a molecule with n atoms at index n, float64 [most atoms + 1].
        token: cost of one token.
    """

    atoms: np.ndarray
    token: float

    def of(self, atoms: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Cost of molecules, float64 [M], from their numbers of atoms and of tokens, both int64 [M]."""
        return self.atoms[atoms] + self.token * tokens


def deal(costs: np.ndarray, shares: int, least: int, most: int) -> list[np.ndarray]:
    """Deal molecules into shares of nearly equal cost.

    Args:
        costs: cost of each molecule [M].
        shares: number of shares.
        least: fewest molecules in one share; shares * least <= M.
        most: most molecules in one share; M <= shares * most.

    Returns:
        For each share the positions of its molecules in `costs`, ascending.
    """
    if shares == 1:
        return [np.arange(len(costs))]
    order = np.argsort(-costs, kind="stable").tolist()
    values = costs.tolist()
    members: list[list[int]] = [[] for _ in range(shares)]
    heap = [(0.0, share) for share in range(shares)]
    needed = shares * least  # molecules that these shares still need
    for dealt, molecule in enumerate(order):
        if needed == len(order) - dealt:  # the rest just fills the shares that have too few
            heap = [entry for entry in heap if len(members[entry[1]]) < least]
            heapify(heap)
        load, share = heappop(heap)
        share_members = members[share]
        needed -= len(share_members) < least
        share_members.append(molecule)
        if len(share_members) < most:
            heappush(heap, (load + values[molecule], share))
    return [np.array(sorted(share_members), np.int64) for share_members in members]


def imbalance(loads: np.ndarray) -> float:
    """Relative excess of the heaviest load over the mean: at 0.02 the others wait 2 % of their time."""
    mean = loads.mean() if len(loads) else 0.0
    return float(loads.max() / mean - 1.0) if mean else 0.0
