"""The recipes and profiles that come with the package: `launch/*.yaml` and `slurm/*.yaml`.

A checkout and an editable installation have them beside the package, a wheel inside of it (see `setup.py`).
"""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("launch", "slurm")
PACKAGE = Path(__file__).parent


def bundled_root() -> Path:
    """Return the folder that holds `launch` and `slurm`."""
    return PACKAGE if (PACKAGE / FOLDERS[0]).is_dir() else PACKAGE.parent


def bundled_file(name: str | Path) -> Path | None:
    """Return the bundled file of a name such as `launch/demo.yaml`; None if there is none.

    Args:
        name: a path as the documentation writes it, relative and below `launch` or `slurm`.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or path.parts[:1] not in [(folder,) for folder in FOLDERS]:
        return None
    found = bundled_root() / path
    return found if found.is_file() else None


def bundled_names() -> list[str]:
    """Return the names of all recipes, such as `launch/demo.yaml`, and then of all profiles."""
    root = bundled_root()
    paths = [path for folder in FOLDERS for path in sorted((root / folder).glob("*.yaml"))]
    return [path.relative_to(root).as_posix() for path in paths]
