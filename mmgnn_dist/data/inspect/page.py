"""The overview of a shard set as one HTML page: no script, no network request, plots as inline SVG.

It follows the reader's light or dark mode; on a narrow screen each wide table scrolls horizontally.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from mmgnn_dist.data.inspect.overview import summary, tables
from mmgnn_dist.data.inspect.overview_records import Histogram, Overview
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import write_text
from mmgnn_dist.html_style import html_page

STYLE = """
th:first-child, td:first-child { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1rem;
  margin-top: 1rem; }
figure { margin: 0; }
svg { width: 100%; }
.bar { fill: var(--bar); }
.axis { stroke: var(--line); }
.label { fill: var(--soft); font: 11px system-ui, sans-serif; }
"""
WIDTH, HEIGHT, FOOT = 320, 140, 18


def write_page(path: Path, overview: Overview) -> None:
    """Write the page of an overview (see `overview.look`).

    Raises:
        UserError: the page cannot be written.
    """
    parts = [f"<p>{escape(line)}</p>" for line in summary(overview)]
    if "missing" in overview["tokens"]:
        parts.append(f"<p>Tokens not counted: {escape(overview['tokens']['missing'])}</p>")
    parts.append(_plots([("atoms in a molecule", overview["sizes"])]))
    for table in tables(overview):
        parts.append(f"<h2>{escape(table.title)}</h2>")
        if not table.rows:
            parts.append("<p>None.</p>")
            continue
        head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
        lines = ("".join(f"<td>{escape(cell)}</td>" for cell in cells) for cells, _ in table.rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>')
        unit = table.columns[1] == "unit"
        plotted = [(f"{cells[0]} / {cells[1]}" if unit else cells[0], bars) for cells, bars in table.rows]
        parts.append(_plots([(name, bars) for name, bars in plotted if bars]))
    versions = ", ".join(f"{name} {version}" for name, version in overview["versions"].items())
    parts.append(f'<p class="soft">Made with {escape(versions)}.</p>')
    title = f"Shard set {overview['name']}"
    page = html_page(title, STYLE, "\n".join([f"<h1>{escape(title)}</h1>", *parts]))
    try:
        write_text(path, page)
    except OSError as error:
        raise UserError(f"--html {path} cannot be written ({error.strerror}): give another place") from None


def _plots(named: list[tuple[str, Histogram]]) -> str:
    figures = [_figure(name, bars) for name, bars in named if any(bars["counts"])]
    return f'<div class="plots">{"".join(figures)}</div>' if figures else ""


def _figure(name: str, bars: Histogram) -> str:
    """A histogram: counts over the values from `low` to `high`."""
    counts, most = bars["counts"], max(bars["counts"])
    width = WIDTH / len(counts)
    top = HEIGHT - FOOT
    shapes = "".join(
        f'<rect class="bar" x="{index * width:.1f}" y="{top - count / most * (top - 14):.1f}" '
        f'width="{max(width - 1, 1):.1f}" height="{count / most * (top - 14):.1f}"/>'
        for index, count in enumerate(counts)
        if count
    )
    low, high = f"{bars['low']:.4g}", f"{bars['high']:.4g}"
    return (
        f"<figure><figcaption>{escape(name)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}: {low} to {high}, '
        f'largest bar {most}">{shapes}<line class="axis" x1="0" x2="{WIDTH}" y1="{top}" y2="{top}"/>'
        f'<text class="label" x="0" y="{HEIGHT - 4}">{low}</text>'
        f'<text class="label" x="{WIDTH}" y="{HEIGHT - 4}" text-anchor="end">{high}</text>'
        f'<text class="label" x="0" y="10">{most:,}</text></svg></figure>'
    )
