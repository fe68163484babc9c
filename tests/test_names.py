"""One public name has one meaning in the package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mmgnn_dist"
# names that several modules may define, and why
CONVENTIONS = {
    "main": "what a console script and `python -m` start",
    "add_verbs": "each file of cli/ adds its own verbs by it",
}


def public_names(path: Path) -> set[str]:
    """Public functions and classes of a module, and constants that it may lend to others."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in defined if not name.startswith("_")}


def imported_constants(path: Path) -> set[tuple[str, str]]:
    """(module, name) of each constant that a module takes from another one of the package."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    taken = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {
        (node.module, alias.name)
        for node in taken
        if node.module.startswith("mmgnn_dist")
        for alias in node.names
        if alias.name.isupper()
    }


def test_functions_and_classes_have_one_meaning():
    places = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in public_names(path) - set(CONVENTIONS):
            places[name].add(str(path.relative_to(PACKAGE)))
    assert not {name: sorted(files) for name, files in places.items() if len(files) > 1}


def test_constants_that_modules_share_have_one_meaning():
    places = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for module, name in imported_constants(path):
            if not module.endswith(".config"):  # it shows the names of its own modules
                places[name].add(module)
    assert not {name: sorted(modules) for name, modules in places.items() if len(modules) > 1}
