"""Types of the records of a preparation in progress: what the record file of a chunk holds."""

from __future__ import annotations

from typing import TypedDict

from mmgnn_dist.data.shardset.manifest import SelectionEntry, ShardEntry, StateCounts, UnstatedCounts


class Moments(TypedDict):
    """Count, mean, sum of squared deviations from it, and range of the labels of one target in a shard."""

    count: int
    mean: float
    squares: float
    min: float | None
    max: float | None


class ShardSummary(TypedDict):
    """Statistics of the molecules of one shard; see `prepare.statistics`."""

    targets: dict[str, Moments]
    coverage: dict[str, int]
    elements: list[int]
    max_atoms: int
    states: StateCounts
    unstated: UnstatedCounts


class QuarantineRow(TypedDict):
    """A molecule that was set aside; `at` is its position among the rows that were read into the chunk."""

    at: int
    id: str | None
    source: str
    row: int
    reason: str
    detail: str


class NoteRow(TypedDict):
    """A kept molecule to which something was done otherwise than to most."""

    at: int
    id: str
    source: str
    row: int
    note: str


# `in` is a keyword, so this is no class; see `prepare.chunks` for the entries
ChunkRecord = TypedDict(
    "ChunkRecord",
    {
        "in": int,
        "entry": ShardEntry,
        "joined": list[list[int]],
        "without_text": dict[str, dict[str, int]],
        "selection": SelectionEntry,
        "summary": ShardSummary,
        "quarantine": list[QuarantineRow],
        "assumed": list[int],
        "notes": list[NoteRow],
        "origins": list[tuple[str, int]],
    },
)
