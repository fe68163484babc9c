"""Imports go one way, and the command line stays quick."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mmgnn_dist"
# what each part may import; a part is a module or a folder below mmgnn_dist
BASE = {"errors", "files", "signals", "leave", "config", "progress"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "signals": set(),
    "leave": set(),
    "progress": set(),
    "config": {"errors", "files"},
    "chem": BASE,
    "data": BASE | {"chem"},
    "models": BASE | {"chem", "data"},
    "train": BASE | {"chem", "data", "models"},
    "bench": BASE | {"chem", "data", "models", "train"},
    "cluster": BASE | {"chem", "data", "models", "train", "bench", "study"},
    "plan": BASE | {"chem", "data", "models", "train"},
    "predict": BASE | {"chem", "data", "models", "train"},
    "study": BASE | {"chem", "data", "models", "train"},
    "cli": BASE | {"chem", "data", "models", "train", "bench", "cluster", "plan", "predict", "study"},
}
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


def part_of(module: str) -> str | None:
    names = module.split(".")
    return names[1] if names[0] == "mmgnn_dist" and len(names) > 1 else None


def test_imports_go_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "sample"):
            continue
        assert own in ALLOWED, f"{path}: say in this test what {own} may import"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
                if node.module == "mmgnn_dist":
                    modules = [f"mmgnn_dist.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            for module in modules:
                other = part_of(module)
                if other and other not in ALLOWED[own] | {own, "__version__"}:
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert not wrong


def test_help_takes_less_than_a_second_of_processor_time_and_loads_nothing_heavy():
    program = (
        "import sys; from mmgnn_dist.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    after = os.times()
    assert after.children_user + after.children_system < before.children_user + before.children_system + 1.0
    assert done.stdout.strip().endswith("[]")
    assert "train" in done.stdout
