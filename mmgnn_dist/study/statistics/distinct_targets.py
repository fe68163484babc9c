"""Which targets are nearly one: decided from their labels, after composition is taken off.

The rule: targets are visited in the order of the recipe. From every target a linear fit on composition (atoms
of each element, and a constant) is taken off. A target is left out of a mean over targets if a linear fit on
the targets that are kept so far explains `NEARLY` or more of the variance that is left. So u298 goes after
u0, and the gap after homo and lumo, of which it is the difference. Molecules that have all these labels are
used; of fewer than `LEAST_LABELS` the target is kept.
"""

from __future__ import annotations

import numpy as np

NEARLY = 0.95
LEAST_LABELS = 30


def distinct_targets(y: np.ndarray, composition: np.ndarray) -> tuple[list[int], dict[int, float]]:
    """Find the targets of which none is nearly given by others.

    Args:
        y: targets [n, T], NaN without a label.
        composition: atoms of each element [n, E].

    Returns:
        Places of the targets that are kept, and the explained share of variance of each one left out.
    """
    kept: list[int] = []
    left_out: dict[int, float] = {}
    for place in range(y.shape[1]):
        labelled = np.isfinite(y[:, [*kept, place]]).all(1)
        if kept and labelled.sum() >= LEAST_LABELS:
            atoms = np.hstack([composition[labelled], np.ones((int(labelled.sum()), 1))])
            rest = y[labelled][:, [*kept, place]]
            spread = rest.std(0)
            rest = (rest - rest.mean(0)) / np.where(spread > 0, spread, 1.0)
            rest = rest - atoms @ np.linalg.lstsq(atoms, rest, rcond=None)[0]
            others, own = rest[:, :-1], rest[:, -1]
            fitted = others @ np.linalg.lstsq(others, own, rcond=None)[0]
            total = (own**2).sum()
            explained = 1.0 - ((own - fitted) ** 2).sum() / total if total > 1e-12 * len(own) else 1.0
            if explained >= NEARLY:
                left_out[place] = float(explained)
                continue
        kept.append(place)
    return kept, left_out
