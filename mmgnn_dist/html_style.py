"""The shared style of all HTML pages: one column, light or dark as the reader prefers, tables that scroll.

A page appends its own rules.
"""

from __future__ import annotations

from html import escape

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --page: #ffffff; --soft: #57606a; --line: #d7dce1;
  --bar: #2f6f9f; --link: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e8ec; --page: #14181c; --soft: #9aa5b0; --line: #333b43; --bar: #6fb1e0;
    --link: #7cb8ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 74rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--page); }
h1 { font-size: 1.5rem; margin: 0.5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
figcaption, .soft { color: var(--soft); font-size: 0.9rem; overflow-wrap: anywhere; }
svg { display: block; height: auto; }
"""


def html_page(title: str, style: str, body: str) -> str:
    """Return a whole HTML page.

    Args:
        title: title of the page, not yet escaped.
        style: rules of this page, added after the shared ones.
        body: HTML of the content.
    """
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{style.lstrip()}</style></head><body><main>\n{body}\n</main></body></html>\n"
    )
