"""Predicted costs of molecules, by which ranks and passes get shares of equal cost (`sampling.py`).

The cost of a molecule is predicted from its atoms and its tokens (`Costs`, made by `models/balance.py`). It
depends on the recipe and the data only, never on a clock, so shares are the same in a resumed or repeated
run.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def imbalance(loads: np.ndarray) -> float:
    """Relative excess of the heaviest load over the mean: at 0.02 the others wait 2 % of their time."""
    mean = loads.mean() if len(loads) else 0.0
    return float(loads.max() / mean - 1.0) if mean else 0.0
