"""Types of the records in token sidecars and in the manifest of a field."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, cast

from mmgnn_dist.files import read_json


class SidecarCounts(TypedDict):
    """Counts of the sidecar of one shard, and the SHA-256 of the shard it was made from."""

    shard_sha256: str
    rows: int
    present: int
    runs: int
    tokens: int
    cut_molecules: int
    cut_tokens: int
    unknown: int


class SidecarEntry(SidecarCounts):
    """Entry of the sidecar of one shard in the manifest of a field."""

    name: str
    bytes: int
    sha256: str


class SidecarManifest(TypedDict):
    """The manifest of a field: its `Wording`, sums over its sidecars, and the entries of its sidecars."""

    budget: int | None
    counts: dict[str, int]
    files: list[SidecarEntry]


def total_counts(files: list[SidecarEntry]) -> dict[str, int]:
    """Sums over the sidecars of a field.

    Args:
        files: one entry per shard.
    """
    return {
        "rows": sum(file["rows"] for file in files),
        "present": sum(file["present"] for file in files),
        "runs": sum(file["runs"] for file in files),
        "tokens": sum(file["tokens"] for file in files),
        "cut_molecules": sum(file["cut_molecules"] for file in files),
        "cut_tokens": sum(file["cut_tokens"] for file in files),
        "unknown": sum(file["unknown"] for file in files),
    }


def read_sidecar(path: Path) -> SidecarManifest:
    """Read FIELD-WORDING.json; empty if it is absent or damaged (it is rebuilt from the files)."""
    try:
        return cast(SidecarManifest, read_json(path))
    except (OSError, ValueError):
        return {"budget": 0, "counts": {}, "files": []}
