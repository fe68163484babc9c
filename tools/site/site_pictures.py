"""Flow charts of the pages as SVG: Mermaid's own drawing needs a script from another server.

Only what the pages use is read: boxes `name["words"]` and arrows `from --> to` of a chart that grows upwards.
A box lies one row above the highest box that it points to; in a row boxes are ordered by those they point to.
"""

from __future__ import annotations

import html
import re

CHART = re.compile(r"```mermaid\nflowchart BT\n(?P<lines>.*?)```", re.DOTALL)
BOX = re.compile(r'^\s*(\w+)\["(.*?)"\]$', re.MULTILINE)
ARROW = re.compile(r"^\s*(\w+) --> (\w+)$", re.MULTILINE)
WIDTH, HEIGHT, ACROSS, UP = 118, 30, 134, 62  # of a box, and between the centres of two


def with_pictures(text: str) -> str:
    """A page whose flow charts are drawn."""
    return CHART.sub(lambda chart: drawn(BOX.findall(chart["lines"]), ARROW.findall(chart["lines"])), text)


def rows_of(names: list[str], arrows: list[tuple[str, str]]) -> list[list[str]]:
    """The boxes of each row, from the lowest; they must have no circle."""
    below = {name: [to for start, to in arrows if start == name] for name in names}
    height: dict[str, int] = {}

    def rank(name: str) -> int:
        if name not in height:
            height[name] = 1 + max(map(rank, below[name]), default=-1)
        return height[name]

    rows: list[list[str]] = [[] for _ in range(1 + max(map(rank, names)))]
    place: dict[str, float] = {}
    for name in sorted(names, key=rank):
        rows[rank(name)].append(name)
    for row in rows:
        row.sort(key=lambda name: sum(place[to] for to in below[name]) / max(len(below[name]), 1))
        place |= {name: number - (len(row) - 1) / 2 for number, name in enumerate(row)}
    return rows


def drawn(boxes: list[tuple[str, str]], arrows: list[tuple[str, str]]) -> str:
    """SVG of a chart, in the colours of the page around it."""
    rows = rows_of([name for name, _ in boxes], arrows)
    width = ACROSS * max(map(len, rows))
    height = UP * len(rows)
    centre = {
        name: (width / 2 + ACROSS * (place - (len(row) - 1) / 2), height - UP * (number + 0.5))
        for number, row in enumerate(rows)
        for place, name in enumerate(row)
    }
    shapes = []
    for start, to in arrows:
        (x, y), (u, v) = centre[start], centre[to]
        y, v = y + HEIGHT / 2, v - HEIGHT / 2 - 5
        shapes.append(
            f'<path d="M{x:.0f} {y:.0f}C{x:.0f} {y + 20:.0f} {u:.0f} {v - 20:.0f} {u:.0f} {v:.0f}"/>'
        )
    for name, words in boxes:
        x, y = centre[name]
        shapes.append(
            f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}"/>'
        )
        shapes.append(f'<text x="{x:.0f}" y="{y + 4:.0f}">{html.escape(words)}</text>')
    arrow = (
        '<marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
    )
    told = ", ".join(f"{start} to {to}" for start, to in arrows)
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(told)}">'
        f'<defs>{arrow}<path d="M0 0L6 3L0 6z"/></marker></defs>{"".join(shapes)}</svg>'
    )
