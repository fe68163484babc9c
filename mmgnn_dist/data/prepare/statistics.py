"""Statistics of the molecules of a set for the manifest, computed per shard and combined at the end.

Means and variances are combined by the parallel form of Chan, Golub and LeVeque, in the order of the
shards, so they do not depend on which worker computed which shard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.elements import SYMBOLS
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.prepare.state_counts import count_states
from mmgnn_dist.data.shardset.chunk_records import Moments, ShardSummary
from mmgnn_dist.data.shardset.manifest import MoleculeStatistics, TargetStatistics
from mmgnn_dist.data.shardset.text_presence import presence


def shard_statistics(
    batch: pa.RecordBatch, targets: list[str], fields: Sequence[str] = TEXT_FIELDS
) -> ShardSummary:
    """Target moments, coverage of text fields, elements, largest molecule and states of one shard."""
    y = batch.column("y").flatten().to_numpy().reshape(len(batch), len(targets))
    z = batch.column("z")
    sizes = np.diff(z.offsets.to_numpy())
    coverage = {name: int(presence(batch, name).sum()) for name in fields}
    return {
        "targets": {name: _moments(y[:, column]) for column, name in enumerate(targets)},
        "coverage": coverage,
        "elements": np.bincount(z.flatten().to_numpy(), minlength=len(SYMBOLS)).tolist(),
        "max_atoms": int(sizes.max(initial=0)),
        **count_states(batch),
    }


def combine(summaries: list[ShardSummary]) -> MoleculeStatistics:
    """Combine shard statistics to the manifest's entries target_stats, coverage, elements, max_atoms."""
    stats: dict[str, TargetStatistics] = {}
    for name in summaries[0]["targets"]:
        total = _moments(np.zeros(0))
        for summary in summaries:
            total = _add(total, summary["targets"][name])
        count = total["count"]
        stats[name] = {
            "count": count,
            "mean": total["mean"] if count else None,
            "std": math.sqrt(total["squares"] / count) if count else None,
            "min": total["min"],
            "max": total["max"],
        }
    elements = np.sum([summary["elements"] for summary in summaries], axis=0)
    return {
        "target_stats": stats,
        "coverage": {
            name: sum(summary["coverage"][name] for summary in summaries) for name in summaries[0]["coverage"]
        },
        "elements": [SYMBOLS[z] for z in np.flatnonzero(elements)],
        "max_atoms": max(summary["max_atoms"] for summary in summaries),
    }


def _moments(values: np.ndarray) -> Moments:
    """Count, mean, sum of squared deviations and range of the values that are not NaN."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {"count": 0, "mean": 0.0, "squares": 0.0, "min": None, "max": None}
    mean = float(values.mean())
    return {
        "count": len(values),
        "mean": mean,
        "squares": float(((values - mean) ** 2).sum()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def _add(first: Moments, second: Moments) -> Moments:
    if not first["count"] or not second["count"]:
        return first if first["count"] else second
    count = first["count"] + second["count"]
    shift = second["mean"] - first["mean"]
    return {
        "count": count,
        "mean": first["mean"] + shift * second["count"] / count,
        "squares": first["squares"] + second["squares"] + shift**2 * first["count"] * second["count"] / count,
        "min": _extreme(min, first["min"], second["min"]),
        "max": _extreme(max, first["max"], second["max"]),
    }


def _extreme(choose: Callable[[list[float]], float], *values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None
