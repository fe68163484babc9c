"""The result of `mmgnn verify`, as lines of text and as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import EXIT_DONE, EXIT_FAULT
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.verify.compare import SAFETY, Comparison
from mmgnn_dist.train.verify.records import Fault, JournalRecord

EXIT_DIFFERS = EXIT_FAULT


@dataclass
class Verified:
    """What was found of a run.

    Attributes:
        run: run directory.
        record: its journal.
        faults: parts of it that are not as they were written.
        first: first recomputed step; None if nothing was recomputed.
        last: last step of the window.
        begin: the checkpoint from which was recomputed; None for the start of the run.
        world: number of ranks that recomputed.
        comparison: the recomputed steps beside those of the journal; None if nothing was recomputed.
        reasons: why bits may differ here from those of the run.
    """

    run: Path
    record: JournalRecord
    faults: list[Fault] = field(default_factory=list)
    first: int | None = None
    last: int | None = None
    begin: Path | None = None
    world: int = 1
    comparison: Comparison | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Whether all is equal: that of the recomputed steps, or `different` with any fault."""
        if self.faults or (self.comparison and self.comparison.verdict == "different"):
            return "different"
        return self.comparison.verdict if self.comparison else "records as written"

    @property
    def exit_code(self) -> int:
        """0 for equal, 1 for different."""
        return EXIT_DIFFERS if self.verdict == "different" else EXIT_DONE

    def lines(self) -> list[str]:
        """Return the result as lines of text; the last one has the verdict."""
        record, found = self.record, self.comparison
        count, name = len(record.lines), RunDir(self.run).journal
        chain = f"{name}: {count} lines, {record.chained} of them in the chain, head {record.head}"
        if not record.chained:
            chain = f"{name}: {count} lines, no chain (written by an older version)"
        words = [chain, *(fault.line for fault in self.faults)]
        if found is None:
            return [*words, "no step was recomputed", self.verdict]
        place = self.begin.name if self.begin else "the start"
        ranks = f"{self.world} rank{'s' if self.world > 1 else ''}"
        weights = f", weights before steps {_listed(found.weights)}" if found.weights else ""
        compared = f"{found.compared} compared, from {place}, on {ranks}{weights}"
        words.append(f"steps {self.first} to {self.last}: {compared}")
        if found.step is not None:
            words.append(f"step {found.step} is the first that differs: {found.what}{self._since(found)}")
        if self.reasons:
            words.append(f"bits may differ: {'; '.join(self.reasons)}")
        if found.bound is not None:
            words.append(
                f"losses differ by at most {found.deviation:.2g} of the loss, bound {found.bound:.2g}: "
                f"{SAFETY:g} times the effect of one rounding of every weight, measured on these steps"
            )
        if self.not_judged:
            words.append(f"steps {self.not_judged} to {self.last} are not judged: their bound is above 1 %")
        return [*words, self.verdict]

    @property
    def not_judged(self) -> int | None:
        """First step at which rounding explains so much that nothing is said of it and the later ones."""
        found = self.comparison
        if found is None or found.step is not None or self.first is None or self.last is None:
            return None
        after = self.first + found.compared
        return after if after <= self.last else None

    def _since(self, found: Comparison) -> str:
        """The step up to which the weights were equal, where the weights themselves differ."""
        equal = [step for step in found.weights if found.step is not None and step < found.step]
        return f"; the weights before step {equal[-1]} were equal" if equal else ""

    def values(self) -> dict[str, Any]:
        """Return the result as plain values, for JSON."""
        found = self.comparison
        return {
            "run": self.run,
            "verdict": self.verdict,
            "journal": {
                "lines": len(self.record.lines),
                "chained": self.record.chained,
                "head": self.record.head,
            },
            "faults": [vars(fault) for fault in self.faults],
            "first": self.first,
            "last": self.last,
            "from": self.begin,
            "world": self.world,
            "reasons": self.reasons,
            "steps": vars(found) if found else None,
        }


def _listed(steps: list[int]) -> str:
    """The steps as words, the middle of a long list left out."""
    return ", ".join(map(str, steps if len(steps) <= 6 else [*steps[:3], "…", *steps[-2:]]))
