"""Elements of a report: sections with text, tables and figures; tables as CSV and Markdown."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Table:
    """A table, as displayed text and as numbers.

    Attributes:
        name: name of its CSV file.
        title: title above the table.
        columns: column headings.
        rows: cells as displayed.
        numbers: one mapping per row of the CSV, in full precision.
        note: note below the table.
        words: number of columns at the left that hold words; the others hold numbers.
    """

    name: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    numbers: list[dict[str, Any]]
    note: str = ""
    words: int = 1

    def csv(self) -> str:
        """Return all numbers as CSV."""
        out = io.StringIO()
        keys = list(dict.fromkeys(key for row in self.numbers for key in row))
        writer = csv.DictWriter(out, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.numbers)
        return out.getvalue()

    def markdown(self) -> list[str]:
        """Return the table as lines of Markdown, without the title."""
        marks = ["---" if index < self.words else "---:" for index in range(len(self.columns))]
        head = "| " + " | ".join(self.columns) + " |"
        lines = [head, "|" + "|".join(marks) + "|", *("| " + " | ".join(row) + " |" for row in self.rows)]
        return [*lines, "", self.note] if self.note else lines


@dataclass
class Figure:
    """A figure: an SVG that takes the text colour of its page, and a PNG on white."""

    name: str
    caption: str
    svg: str
    png: bytes


@dataclass
class ReportSection:
    """A part of the report with its own heading."""

    title: str
    text: list[str] = field(default_factory=list)
    items: list[Table | Figure] = field(default_factory=list)


def number(value: float, digits: int = 3) -> str:
    """Format with `digits` significant digits, without an exponent if readable; a dash if not finite."""
    if not math.isfinite(value):
        return "–"
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}"


def with_spread(mean: float, spread: float) -> str:
    """Format as `0.123 ± 0.004`; both have the decimals of the mean with three significant digits."""
    if not math.isfinite(mean):
        return "–"
    decimals = min(6, max(0, 2 - math.floor(math.log10(abs(mean))))) if mean else 0
    tail = f" ± {spread:.{decimals}f}" if math.isfinite(spread) else ""
    return f"{mean:,.{decimals}f}{tail}"


def percent(value: float) -> str:
    """Format as `+3.1`, with a typographic minus sign."""
    return signed(value, 1)


def signed(value: float, decimals: int) -> str:
    """Format with a sign and some decimals, as `+0.012`; a dash if not finite."""
    return "–" if not math.isfinite(value) else f"{value:+.{decimals}f}".replace("-", "−")


def interval(low: float, high: float, decimals: int = 1) -> str:
    """Format as `[−0.5, +3.1]`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"[{signed(low, decimals)}, {signed(high, decimals)}]"


def probability(p: float) -> str:
    """Format as `0.012` or `< 0.001`."""
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
