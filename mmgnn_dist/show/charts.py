"""Charts of a page as inline SVG in the colours of the page: lines, points with hover values, bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT, LEFT, FOOT, TOP = 340, 240, 52, 34, 8
TICKS = 6
STYLE = """
.charts { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; }
.charts svg { width: 100%; max-width: 30rem; }
.axis { stroke: var(--line); fill: none; }
.tick { fill: var(--soft); font: 11px system-ui, sans-serif; }
.point { fill: var(--bar); fill-opacity: 0.55; }
.point:hover { fill: var(--s1); fill-opacity: 1; }
.bar { fill: var(--bar); }
:root { --s0: #1f5fa8; --s1: #b3540b; --s2: #2f7d42; --s3: #8a3b8f; --s4: #6b5b00; --s5: #a02626; }
@media (prefers-color-scheme: dark) { :root { --s0: #7cb8ea; --s1: #f0a35e; --s2: #7fcf92; --s3: #d99ade;
  --s4: #d8c95c; --s5: #f08d8d; } }
.key { display: inline-block; width: 1.4rem; height: 0; border-top: 3px solid; vertical-align: middle;
  margin: 0 0.3rem 0 0.8rem; }
"""
COLOURS = 6  # of lines, `--s0` to `--s5`
DASHES = ("", "7 3", "2 3")  # lines differ by more than their colour


@dataclass(frozen=True)
class ChartLine:
    """A line of a chart.

    Attributes:
        name: its name in the legend.
        x: positions [n].
        y: values [n]; NaN leaves a gap.
        number: which colour and dashes it has.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    number: int = 0


class _Frame:
    """Axes of a chart: from data to places in the picture."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x0, self.x1 = _range(x)
        self.y0, self.y1 = _range(y)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a value."""
        across = (x - self.x0) / (self.x1 - self.x0)
        up = (y - self.y0) / (self.y1 - self.y0)
        return LEFT + across * (WIDTH - LEFT - 8), HEIGHT - FOOT - up * (HEIGHT - FOOT - TOP)

    def axes(self, x_title: str) -> str:
        """Return both axes with their numbers."""
        floor, parts = HEIGHT - FOOT, []
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{floor}H{WIDTH - 8}"/>')
        for value in _ticks(self.y0, self.y1):
            y = self.at(self.x0, value)[1]
            parts.append(
                f'<text class="tick" x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
            )
        for value in _ticks(self.x0, self.x1):
            x = self.at(value, self.y0)[0]
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{floor + 14}" text-anchor="middle">{value:.4g}</text>'
            )
        middle = (LEFT + WIDTH) / 2
        parts.append(
            f'<text class="tick" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_title)}</text>'
        )
        return "".join(parts)


def _range(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    margin = (high - low) * 0.03 or abs(low) * 0.1 or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Return about `TICKS` round numbers within a range."""
    step = 10 ** math.floor(math.log10((high - low) / TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= TICKS)
    first = math.ceil(low / step)
    return [round(k * step, 12) for k in range(first, math.floor(high / step) + 1)]


def _figure(title: str, label: str, inside: str) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{inside}</svg></figure>'
    )


def line_chart(title: str, lines: Sequence[ChartLine], x_title: str = "step") -> str:
    """Draw lines over a common axis; empty without a finite value."""
    x = np.concatenate([np.asarray(line.x, float) for line in lines]) if lines else np.zeros(0)
    y = np.concatenate([np.asarray(line.y, float) for line in lines]) if lines else np.zeros(0)
    if not np.isfinite(y).any():
        return ""
    frame = _Frame(x, np.append(y[np.isfinite(y)], 0.0) if np.nanmin(y) > 0 else y)
    shapes, ends = [], []
    for line in lines:
        places = [frame.at(*pair) for pair in zip(line.x, line.y, strict=True) if math.isfinite(pair[1])]
        if not places:
            continue
        path = "L".join(f"{across:.1f} {up:.1f}" for across, up in places)
        colour, dash = f"var(--s{line.number % COLOURS})", DASHES[line.number % len(DASHES)]
        shapes.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}">'
            f"<title>{escape(line.name)}</title></path>"
        )
        if len(places) < 40:
            shapes += [
                f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{colour}">'
                f"<title>{escape(line.name)}, {x_title} {at:g}: {value:.4g}</title></circle>"
                for (across, up), at, value in zip(places, line.x, line.y, strict=False)
            ]
        ends.append(f"{line.name} ends at {next(v for v in reversed(line.y) if math.isfinite(v)):.4g}")
    return _figure(title, f"{title}: {'; '.join(ends)}", frame.axes(x_title) + "".join(shapes))


def line_legend(names: Sequence[tuple[str, int]]) -> str:
    """Return the legend of lines, given as (name, number)."""
    styles = ("solid", "dashed", "dotted")
    return (
        "<p>"
        + "".join(
            f'<span><span class="key" style="border-color:var(--s{k % COLOURS});'
            f'border-top-style:{styles[k % 3]}"></span>{escape(name)}</span>'
            for name, k in names
        )
        + "</p>"
    )


def parity_chart(title: str, true: np.ndarray, predicted: np.ndarray, names: Sequence[str], unit: str) -> str:
    """Draw predictions over labels, with the name and both values of a molecule on hovering.

    Args:
        title: caption.
        true: labels, all finite [n].
        predicted: predictions [n].
        names: ids of the molecules.
        unit: unit of both.
    """
    both = np.concatenate([true, predicted])
    frame = _Frame(both, both)
    (x0, y0), (x1, y1) = frame.at(frame.x0, frame.y0), frame.at(frame.x1, frame.y1)
    shapes = [f'<path class="axis" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>']
    for name, label, found in zip(names, true.tolist(), predicted.tolist(), strict=True):
        across, up = frame.at(label, found)
        shapes.append(
            f'<circle class="point" cx="{across:.1f}" cy="{up:.1f}" r="2.6">'
            f"<title>{escape(name)}: {label:.5g}, predicted {found:.5g}</title></circle>"
        )
    about = f"{title}: predictions of {len(true)} molecules over their labels, both in {unit or 'no unit'}"
    return _figure(title, about, frame.axes(f"label ({unit})" if unit else "label") + "".join(shapes))


def bar_chart(title: str, counts: Sequence[int], low: float, high: float, x_title: str) -> str:
    """Draw a histogram of counts with equal bins from `low` to `high`."""
    frame = _Frame(np.array([low, high]), np.array([0, max(counts, default=1) or 1]))
    width, shapes = (high - low) / len(counts), []
    for number, count in enumerate(counts):
        left, up = frame.at(low + number * width, count)
        right, floor = frame.at(low + (number + 1) * width, 0)
        shapes.append(
            f'<rect class="bar" x="{left:.1f}" y="{up:.1f}" width="{max(right - left - 1, 1):.1f}" '
            f'height="{floor - up:.1f}"><title>{count}</title></rect>'
        )
    return _figure(title, f"{title}: largest bar {max(counts)}", frame.axes(x_title) + "".join(shapes))
