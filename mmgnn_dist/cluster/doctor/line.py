"""One line of the report: what was checked, the result, and how to fix a problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True)
class Line:
    """A finding of one check.

    Attributes:
        what: what was checked.
        level: OK, WARN (works, but more slowly or not always) or FAIL.
        found: what the check found.
        cure: how to fix it, empty if nothing is wrong.
    """

    what: str
    level: Level
    found: str
    cure: str = ""


def ok(what: str, found: str) -> Line:
    """A finding that needs no action."""
    return Line(what, "OK", found)


def warn(what: str, found: str, cure: str) -> Line:
    """A finding of something that works, but more slowly than it could, or not always."""
    return Line(what, "WARN", found, cure)


def fail(what: str, found: str, cure: str) -> Line:
    """A finding of something that will not work."""
    return Line(what, "FAIL", found, cure)
