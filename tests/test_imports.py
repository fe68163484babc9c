"""Imports go one way, and the command line stays quick."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmgnn_dist"
# The wings in the order of the flow: a module imports from its own wing and from those above it, never from
# one below. A wing is a module or a folder of the package; `data` has an order of its own.
ORDER = (
    ("errors", "signals", "process", "progress", "terminal", "version"),
    ("files", "html_style", "run_dir", "bundled"),
    ("plugins",),
    ("config", "checksums", "run_records"),
    ("chem",),
    ("data.shardset",),
    ("data.text",),
    ("data.prepare", "data.loading"),
    ("data.inspect", "pubchem", "models"),
    ("train",),
    ("bench", "plan", "predict", "study"),
    ("cluster",),
    ("sweep", "api", "project", "show"),
    ("cli", "ase"),
)
LEVEL = {wing: level for level, wings in enumerate(ORDER) for wing in wings}
HEAVY = {
    "torch",
    "torch_geometric",
    "deepspeed",
    "ray",
    "transformers",
    "rdkit",
    "ase",
    "wandb",
    "peft",
    "matplotlib",
    "pubchempy",
    "submitit",
}


def wing_of(module: str) -> str:
    """The wing of a dotted name below `mmgnn_dist`, '' for the package itself."""
    names = module.split(".")[1:]
    return ".".join(names[:2]) if names[:1] == ["data"] else ".".join(names[:1])


def module_of(path: Path) -> str:
    names = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def imported(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name in MODULES)


def test_imports_go_one_way():
    wrong = []
    for module, path in MODULES.items():
        own = wing_of(module)
        if own in ("", "sample"):
            continue
        if own == "data" and path.name == "__init__.py":
            continue
        assert own in LEVEL, f"{path}: say in this test where {own} stands"
        for other in imported(path):
            wing = wing_of(other)
            if wing and wing != own and LEVEL[wing] >= LEVEL[own]:
                wrong.append(f"{module} imports {other}")
    assert not wrong


def test_no_circle_of_modules():
    """Imports inside of functions count too: a circle that they hide is a circle of thoughts all the same."""
    order = {module: set(imported(path)) - {module} for module, path in MODULES.items()}
    try:
        tuple(TopologicalSorter(order).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_folder_and_no_module_is_crowded():
    folders = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    long = [
        f"{module}.{node.name}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 80
    ]
    assert not {str(folder): count for folder, count in folders.items() if count > 15}
    assert not {module: count for module, count in lines.items() if count > 350}
    assert not long


def test_help_takes_less_than_a_second_of_processor_time_and_loads_nothing_heavy():
    program = (
        "import sys; from mmgnn_dist.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    after = os.times()
    assert after.children_user + after.children_system < before.children_user + before.children_system + 1.0
    assert done.stdout.strip().endswith("[]")
    assert "train" in done.stdout
