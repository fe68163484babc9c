"""The parts of a page of runs: paragraphs, tables that the keyboard can scroll, drawings of molecules."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from mmgnn_dist.errors import UserError

STYLE = """
h2 { padding-top: 0.5rem; border-top: 1px solid var(--line); }
p, pre { max-width: 52rem; } a { color: var(--link); }
th:first-child, td:first-child { text-align: left; }
pre { overflow-x: auto; font-size: 0.85rem; border: 1px solid var(--line); padding: 0.6rem; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.molecules { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; }
.molecules svg { background: #fff; border-radius: 6px; width: 100%; }
nav a { display: inline-block; margin: 0.2rem 1rem 0.2rem 0; }
"""
DRAWN = (220, 150)  # width and height of a drawing


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column names its rows; empty without rows."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def shown_number(value: float, digits: int = 4) -> str:
    """Return a number of a table; a dash where it is not defined."""
    return f"{value:.{digits}g}" if np.isfinite(value) else "–"


def draw_molecules(entries: Sequence[tuple[str, str | None, str]]) -> str:
    """Draw molecules with captions.

    Args:
        entries: id, SMILES and caption of each.

    Returns:
        HTML; a molecule that RDKit cannot draw has its caption alone. Without RDKit all have, which is told.
    """
    try:
        from mmgnn_dist.chem.rdkit_tools import chem

        rdkit, told = chem(), ""
    except UserError as error:
        rdkit, told = None, paragraph(f"Molecules are not drawn: {error}", "soft")
    parts = []
    for name, smiles, caption in entries:
        picture = _drawing(rdkit, smiles) if smiles and rdkit else ""
        parts.append(
            f"<figure>{picture}<figcaption>{escape(name)}{': ' + escape(smiles) if smiles else ''}<br>"
            f"{escape(caption)}</figcaption></figure>"
        )
    return f'<div class="molecules">{"".join(parts)}</div>{told}' if parts else ""


def _drawing(rdkit: Any, smiles: str) -> str:
    from rdkit import rdBase
    from rdkit.Chem.Draw import rdMolDraw2D

    with rdBase.BlockLogs():
        molecule = rdkit.MolFromSmiles(smiles)
    if molecule is None:
        return ""
    drawer = rdMolDraw2D.MolDraw2DSVG(*DRAWN)
    drawer.DrawMolecule(rdMolDraw2D.PrepareMolForDrawing(molecule))
    drawer.FinishDrawing()
    text = drawer.GetDrawingText()
    inside: str = text[text.index("<svg") :].replace(
        "<svg ", f'<svg role="img" aria-label="{escape(smiles)}" ', 1
    )
    return inside.replace("\n", "")
