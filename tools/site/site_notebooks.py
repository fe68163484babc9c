"""Notebooks as pages of the site: their Markdown, their code, and what they printed."""

from __future__ import annotations

import json
from pathlib import Path


def as_markdown(notebook: Path) -> str:
    """Markdown of a notebook; outputs that are text stand below their cell."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        if printed := "".join("".join(output.get("text", [])) for output in cell["outputs"]).rstrip():
            parts.append(f"```text\n{printed}\n```")
    link = f"The notebook is in the repository: `docs/notebooks/{notebook.name}`; a test runs it."
    return "\n\n".join([*parts, link]) + "\n"
