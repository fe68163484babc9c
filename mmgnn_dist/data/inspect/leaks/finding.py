"""What a search for leaks finds: one record for each kind, place and split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

EXAMPLES = 5  # molecules named in a finding

Severity = Literal["leak", "fault", "doubt"]


@dataclass(frozen=True)
class AuditFinding:
    """One finding.

    Attributes:
        kind: what was found, in a few words; the same words for every finding of its kind.
        severity: `leak`: a model can read the label or has seen the molecule; `fault`: text or identity
            belong to another molecule; `doubt`: worth a look.
        where: the text field, target or parts concerned.
        count: number of molecules concerned.
        of: number of molecules looked at.
        examples: ids of some of them, pairs as `one = other`.
        advice: what to do, a sentence.
    """

    kind: str
    severity: Severity
    where: str
    count: int
    of: int
    examples: tuple[str, ...]
    advice: str

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        named = f" (such as {', '.join(self.examples)})" if self.examples else ""
        return f"{self.kind}, {self.where}: {self.count:,} of {self.of:,} molecules{named}; {self.advice}"


def first_examples(names: Iterable[object]) -> tuple[str, ...]:
    """Return the first few names, as strings."""
    return tuple(str(name) for _, name in zip(range(EXAMPLES), names, strict=False))
