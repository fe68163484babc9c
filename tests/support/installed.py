"""A package of others as pip installs it: a module, and metadata that name what it adds."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, package: str, entries: dict[str, dict[str, str]], version: str = "1.0") -> Path:
    """Write the metadata of an installed package; its modules stand in the same folder.

    Args:
        folder: that is to be on `sys.path` or PYTHONPATH.
        package: its name.
        entries: `module:attribute` by group (without `mmgnn_dist.`) and name.
        version: of the package.
    """
    metadata = folder / f"{package}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = []
    for group, named in entries.items():
        lines += [f"[mmgnn_dist.{group}]", *(f"{name} = {value}" for name, value in named.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return metadata
