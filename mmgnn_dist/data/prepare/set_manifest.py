"""The manifest of a shard set from the records of its chunks: of a whole set, or of one chunk of it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.readers.source import printable
from mmgnn_dist.chem.targets import CLASS, Target
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.data.prepare.state_counts import combine_states
from mmgnn_dist.data.prepare.statistics import combine
from mmgnn_dist.data.prepare.text.join import JOINS
from mmgnn_dist.data.prepare.text.text_report import text_entries
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord
from mmgnn_dist.data.shardset.manifest import MoleculeCounts, ShardManifest, TargetEntry
from mmgnn_dist.data.shardset.shards import KIND, schema_version
from mmgnn_dist.version import __version__


def count_molecules(records: Sequence[ChunkRecord]) -> MoleculeCounts:
    """Count the molecules of some chunks: read, kept, and set aside by reason."""
    reasons = Counter(entry["reason"] for record in records for entry in record["quarantine"])
    counts: MoleculeCounts = {
        "in": sum(record["in"] for record in records),
        "kept": sum(record["entry"]["rows"] for record in records),
        "set_aside": reasons.total(),
        "reasons": dict(sorted(reasons.items())),
    }
    if counts["in"] != counts["kept"] + counts["set_aside"]:
        raise AssertionError(f"molecules do not add up: {counts}")
    return counts


def make_manifest(
    plan: PreparePlan,
    records: list[ChunkRecord],
    counts: MoleculeCounts,
    targets: Sequence[Target],
    kinds: dict[str, str],
) -> ShardManifest:
    """Return the manifest of some chunks, without notes and identities.

    Args:
        plan: the plan of the preparation.
        records: the records of the chunks, in order.
        counts: the counts of their molecules.
        targets: the targets in the order of the shards.
        kinds: why a target has its kind, where its labels decided it.
    """
    joined = np.sum([record["joined"] for record in records], axis=0) if plan.text else []
    states = combine_states([record["summary"] for record in records], sum(map(_assumed, records)))
    manifest: ShardManifest = {
        "kind": KIND,
        "schema": schema_version(targets, more=plan.extends_text or "states" in states),
        "shards": [record["entry"] for record in records if record["entry"]["rows"]],
        "rows": counts["kept"],
        "targets": [target_entry(target) for target in targets],
        **combine([record["summary"] for record in records]),
        **states,
        **text_entries(plan, records),
        "counts": counts,
        "sources": [
            {"name": printable(source.path.name), "bytes": source.bytes, "rows": source.rows}
            for source in plan.sources
        ],
        "text": [
            {"name": printable(path.name), "joined": dict(zip(JOINS, map(int, counts_by_join), strict=True))}
            for path, counts_by_join in zip(plan.text, joined, strict=True)
        ],
        "versions": _versions(),
        "prepare": {
            "rows_per_shard": plan.rows_per_shard,
            "providers": list(plan.providers),
            "plan": plan.fingerprint,
        },
    }
    if "names" in plan.providers:
        manifest["prepare"]["check_names"] = plan.check_names
    if plan.plugins:
        manifest["prepare"]["plugins"] = list(plan.plugins)
    if any(source.numbers_conformers for source in plan.sources):
        manifest["conformers"] = True
    if kinds:
        manifest["prepare"]["kinds"] = kinds
    return manifest


def _assumed(record: ChunkRecord) -> int:
    """Number of molecules of a chunk that are kept and have an assumed multiplicity."""
    return len(set(record["assumed"]) - {entry["at"] for entry in record["quarantine"]})


def target_entry(target: Target) -> TargetEntry:
    """A target as the manifest has it."""
    entry: TargetEntry = {"name": target.name, "unit": target.unit, "kind": target.kind}
    if target.kind == CLASS:
        entry["classes"] = list(target.classes)
    return entry


def _versions() -> dict[str, str]:
    return {
        "mmgnn_dist": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        **{name: version(name) for name in ("ray", "rdkit", "ase") if find_spec(name)},
    }
