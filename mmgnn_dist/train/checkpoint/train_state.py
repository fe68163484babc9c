"""State of the training loop as plain values, which every checkpoint has."""

from __future__ import annotations

from dataclasses import dataclass

from mmgnn_dist.run_records import LoopValues


@dataclass
class TrainState:
    """State of the loop as plain values, saved in every checkpoint.

    Attributes:
        step: optimiser steps done.
        best: lowest validation score so far, if any.
        best_step: step of that validation.
        stale: validations since then.
        seconds: time spent in training, s.
        skipped: steps skipped because they were not finite.
        tables: whether radial functions are tabulated (see `models/table_watch.py`).
        journal: hash of the last line of the journal when the state was saved (see `tracking/chain.py`).
    """

    step: int = 0
    best: float | None = None
    best_step: int = -1
    stale: int = 0
    seconds: float = 0.0
    skipped: int = 0
    tables: bool = False
    journal: str = ""

    def values(self) -> LoopValues:
        """Return the state as a checkpoint stores it."""
        return {
            "step": self.step,
            "best": self.best,
            "best_step": self.best_step,
            "stale": self.stale,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "tables": self.tables,
            "journal": self.journal,
        }
