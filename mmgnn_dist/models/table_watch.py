"""Watch over tabulated radial functions in training (`backbones/pairs/radial_table.py`).

The state of the loop says whether a run may tabulate, so that a run that continues makes the same steps. Runs
of older versions have no such state and go on with the direct form. Every `WATCH_EVERY` steps each rank
measures the error of the tables of the current weights; if it is above `TOLERANCE` on any rank, the next
steps of all ranks use the direct form. The ranks learn it from the all-reduce that every step has anyway.
"""

from __future__ import annotations

from mmgnn_dist.config import Recipe
from mmgnn_dist.models.backbones.base import Backbone
from mmgnn_dist.models.backbones.pairs.radial_table import TOLERANCE

WATCH_EVERY = 100  # steps


def tables_allowed(recipe: Recipe) -> bool:
    """Whether a new run of a recipe may tabulate; at stage 3 no rank holds the weights between two steps."""
    return recipe.model.radial == "auto" and recipe.train.zero_stage < 3


class TableWatch:
    """Turns the tables of a backbone on and off, and measures their error.

    Args:
        backbone: the backbone; None if the model reads no graph.
        allowed: whether tables are used at first.
    """

    def __init__(self, backbone: Backbone | None, allowed: bool) -> None:
        self._backbone = backbone
        self._error = 0.0
        self.use(allowed)

    def use(self, allowed: bool) -> None:
        """Turn the tables on or off."""
        if self._backbone is not None:
            self._backbone.tabulated = allowed

    def exceeded(self, step: int) -> bool:
        """Measure the error at some of the steps; return whether it is above the tolerance."""
        if self._backbone is None or not self._backbone.tabulated or step % WATCH_EVERY:
            return False
        self._error = self._backbone.table_error()
        return not self._error <= TOLERANCE  # also if it is not a number

    @property
    def reason(self) -> str:
        """Why the tables are turned off."""
        return (
            f"the error of tabulated filters is {self._error:.1e} here, above {TOLERANCE:.0e} on some rank: "
            "they are computed directly from here on"
        )
