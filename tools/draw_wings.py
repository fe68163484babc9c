"""Draw which wing of the package imports which, from the code, into docs/architecture.md.

    python tools/draw_wings.py           write the picture and the table anew
    python tools/draw_wings.py --check   exit code 1 if they are stale

A wing is a folder of the package, or a folder of `data/`, which has an order of its own; the modules beside
the folders are one wing, `base`. Imports inside of functions count. An arrow that follows from others is left
out, so that the picture shows the order and not every import.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mmgnn_dist"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- drawn by tools/draw_wings.py: do not edit by hand -->"
END = "<!-- end of the drawing -->"
BASE = "base"

Wings = dict[str, set[str]]  # wing -> wings that it imports from


def module_files() -> dict[str, Path]:
    """Every module of the package by its dotted name below `mmgnn_dist`; the package itself is ''."""
    files = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = path.relative_to(PACKAGE).with_suffix("").parts
        files[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return files


def wing_of(module: str) -> str:
    """The wing of a module, by its dotted name below `mmgnn_dist`."""
    names = module.split(".")
    if not (PACKAGE / names[0]).is_dir():
        return BASE
    return ".".join(names[:2]) if names[0] == "data" else names[0]


def imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a file imports, by their dotted names below `mmgnn_dist`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.partition(".")[2] in modules else node.module for name in inner]
        else:
            continue
        for name in names:
            package, _, module = name.partition(".")
            if package == PACKAGE.name and module in modules:
                yield module


def read_wings() -> Wings:
    """Which wing imports from which."""
    modules = module_files()
    wings: Wings = {}
    for module, path in modules.items():
        if module in ("", "data", "sample"):  # they hold no code
            continue
        own = wing_of(module)
        others = {wing_of(other) for other in imported(path, modules) if other}
        wings.setdefault(own, set()).update(others - {own})
    return wings


def in_order(wings: Wings) -> list[str]:
    """The wings, each after all that it imports from; wings of one height by name."""
    order: list[str] = []
    sorter = TopologicalSorter(wings)
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return order


def arrows(wings: Wings) -> list[tuple[str, str]]:
    """(wing, imported wing) without the arrows that follow from others."""
    reach: Wings = {}
    for wing in in_order(wings):
        reach[wing] = set(wings[wing]).union(*(reach[other] for other in wings[wing]))
    return [
        (wing, other)
        for wing in in_order(wings)
        for other in sorted(wings[wing])
        if not any(other in reach[between] for between in wings[wing])
    ]


def purpose(wing: str) -> str:
    """What a wing is for: the first line of its docstring, or the modules of the base."""
    if wing == BASE:
        names = [f"`{path.stem}`" for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__"]
        return "the modules beside the folders: " + ", ".join(names)
    source = (PACKAGE.joinpath(*wing.split(".")) / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def drawing() -> str:
    """The picture (Mermaid) and the table of the wings, between their marks."""
    wings = read_wings()
    lines = [BEGIN, "```mermaid", "flowchart BT"]
    lines += [f'  {wing.replace(".", "_")}["{wing.replace(".", "/")}"]' for wing in in_order(wings)]
    lines += [f"  {a.replace('.', '_')} --> {b.replace('.', '_')}" for a, b in arrows(wings)]
    lines += ["```", "", "| wing | what it is for | imports from |", "|---|---|---|"]
    for wing in in_order(wings):
        others = ", ".join(other.replace(".", "/") for other in in_order(wings) if other in wings[wing])
        lines.append(f"| `{wing.replace('.', '/')}` | {purpose(wing)} | {others} |")
    return "\n".join([*lines, END])


def redrawn(page: str) -> str:
    """The page with the drawing of today."""
    before, _, rest = page.partition(BEGIN)
    return before + drawing() + rest.partition(END)[2]


def main() -> int:
    """Write the drawing, or see whether it is stale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if it is stale")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    new = redrawn(page)
    if check:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
