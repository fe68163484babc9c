"""The report as one HTML page: no scripts, no network requests, figures as inline SVG.

The page follows the light or dark mode of the reader. On a narrow screen wide tables and figures scroll; in
print the page is black on white and tables are not split.
"""

from __future__ import annotations

import re
from html import escape

from mmgnn_dist.html_style import html_page
from mmgnn_dist.study.report.figures import inline
from mmgnn_dist.study.report.report_elements import Figure, ReportSection, Table

STYLE = """
h2 { margin-top: 2.5rem; padding-top: 0.5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 0.3rem; }
p { max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--link); }
nav { columns: 14rem; margin: 1rem 0; }
nav a { display: block; }
table { font-size: 0.9rem; }
th.word, td.word { text-align: left; }
figure { margin: 1.2rem 0; }
figcaption, .soft { max-width: 46rem; }
@media print {
  :root { --text: #000; --page: #fff; --soft: #444; --line: #bbb; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  .wide { overflow: visible; } table { font-size: 7.5pt; } th, td { padding-right: 0.4rem; }
  h2, h3 { break-after: avoid; } table, figure { break-inside: avoid; }
  svg { max-width: 100%; max-height: 20cm; }
  nav { display: none; } }
"""


def page(title: str, lead: list[str], sections: list[ReportSection]) -> str:
    """Build the page."""
    links = "".join(f'<a href="#s{n}">{escape(s.title)}</a>' for n, s in enumerate(sections))
    parts = [f"<h1>{escape(title)}</h1>", *(_paragraph(line) for line in lead), f"<nav>{links}</nav>"]
    for index, section in enumerate(sections):
        parts.append(f'<h2 id="s{index}">{escape(section.title)}</h2>')
        parts += [_paragraph(line) for line in section.text]
        parts += [_table(item) if isinstance(item, Table) else _figure(item) for item in section.items]
    return html_page(title, STYLE, "\n".join(parts))


def _paragraph(text: str, kind: str = "") -> str:
    shown = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))
    shown = re.sub(r"`(.+?)`", r"<code>\1</code>", shown)
    return f'<p class="{kind}">{shown}</p>' if kind else f"<p>{shown}</p>"


def _table(table: Table) -> str:
    def cells(tag: str, row: list[str]) -> str:
        kinds = (' class="word"' if index < table.words else "" for index in range(len(row)))
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    note = _paragraph(table.note, "soft") if table.note else ""
    return (
        f'<h3>{escape(table.title)}</h3><div class="wide"><table><thead><tr>{cells("th", table.columns)}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>{note}"
    )


def _figure(figure: Figure) -> str:
    """Show a figure at its drawn width, so that its text keeps its size; a narrow screen scrolls."""
    width = re.search(r'viewBox="0 0 ([\d.]+)', figure.svg)
    assert width is not None
    pixels = round(float(width.group(1)) * 4 / 3)
    return (
        f'<figure><div class="wide"><div style="width:{pixels}px">{inline(figure)}</div></div>'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )
