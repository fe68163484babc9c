"""The first line of every verdict: whether the models beat what needs no model at all.

The baselines are the mean of the training part and a linear fit on composition. Where no model beats the
better of them, a difference between models, such as a gain of text, says nothing about molecules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def baseline_verdict(shares: Mapping[str, float], worst: Mapping[str, float] | None = None) -> str:
    """Say on which targets the models beat both baselines, and where not all of them do.

    Args:
        shares: error of the best model over that of the better baseline, by target; NaN where one of them is
            not known.
        worst: the same of the worst of the models that are compared.
    """
    behind = {t: value for t, value in (worst or {}).items() if shares[t] < 1 <= value}
    first = _best_models(shares)
    if not behind:
        return first
    return (
        f"{first} Not every model does on {_listed(behind)}: a difference from one that does not says little."
    )


def _best_models(shares: Mapping[str, float]) -> str:
    known = {target: value for target, value in shares.items() if not math.isnan(value)}
    if not known:
        return "Whether the models beat the baselines (mean, linear fit on composition) is not known."
    worse = {target: value for target, value in known.items() if not value < 1}
    if not worse:
        on = "all targets" if len(known) > 1 else next(iter(known))
        return f"The models beat the baselines (mean, linear fit on composition) on {on}."
    listed = _listed(worse)
    if len(worse) == len(known):
        return (
            f"No model beats the baselines (mean, linear fit on composition): {listed}. Differences between "
            "such models say nothing about the use of text."
        )
    return (
        f"The models beat the baselines (mean, linear fit on composition) on {len(known) - len(worse)} of "
        f"{len(known)} targets, and not on {listed}: there, differences between them say nothing."
    )


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{target} ({100 * value:.0f} % of the better one)" for target, value in shares.items())
