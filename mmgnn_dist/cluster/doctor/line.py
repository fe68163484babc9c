"""One line of the report: what was looked at, how it is, and what cures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True)
class Line:
    """A finding.

    Attributes:
        what: was looked at.
        level: OK, WARN (works, but worse or at times) or FAIL.
        found: what there is.
        cure: what to do, empty where nothing is wrong.
    """

    what: str
    level: Level
    found: str
    cure: str = ""


def ok(what: str, found: str) -> Line:
    """All is well."""
    return Line(what, "OK", found)


def warn(what: str, found: str, cure: str) -> Line:
    """It works, but worse than it might, or not always."""
    return Line(what, "WARN", found, cure)


def fail(what: str, found: str, cure: str) -> Line:
    """It will not work."""
    return Line(what, "FAIL", found, cure)
