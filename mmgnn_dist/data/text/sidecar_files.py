"""The files of token sidecars: whether they are sound, and of which shard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.sidecar_records import SidecarCounts, SidecarEntry, read_sidecar

META = b"mmgnn.tokens"


def sidecar_entry(path: Path, counts: SidecarCounts, digest: Callable[[Path], str]) -> SidecarEntry:
    """The entry of a file in the manifest of its field."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest(path), **counts}


def sound_entry(
    path: Path, shard_sha: str, old_entry: SidecarEntry | None, digest: Callable[[Path], str]
) -> SidecarEntry | None:
    """The entry of a file that is complete and belongs to its shard, else None."""
    if not path.is_file():
        return None
    try:
        counts: SidecarCounts = json.loads(pa.ipc.open_file(pa.memory_map(str(path))).schema.metadata[META])
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError):
        return None
    entry = sidecar_entry(path, counts, digest)
    return entry if counts["shard_sha256"] == shard_sha and old_entry in (None, entry) else None


def is_whole(folder: Path, place: str, shards: ShardSet, digest: Callable[[Path], str]) -> bool:
    """Whether a folder has all files of a sidecar, sound and of these shards."""
    listed = {file["name"]: file for file in read_sidecar(folder / f"{place}.json")["files"]}
    return all(
        entry["name"] in listed
        and sound_entry(folder / place / entry["name"], entry["sha256"], listed[entry["name"]], digest)
        for entry in shards.manifest["shards"]
    )
