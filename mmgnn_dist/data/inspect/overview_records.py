"""Types of the overview of a shard set, which `mmgnn data inspect --json` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired, TypedDict, final

from mmgnn_dist.data.shardset.manifest import (
    MoleculeCounts,
    SelectionEntry,
    SourceEntry,
    StateCounts,
    TargetStatistics,
)
from mmgnn_dist.data.shardset.splits import SplitInfo


class Histogram(TypedDict):
    """Counts in equal bins from `low` to `high`."""

    low: float
    high: float
    counts: list[int]


class TargetOverview(TargetStatistics):
    """Unit, statistics and histogram of a target."""

    unit: str
    histogram: Histogram


class TokenSpread(TypedDict):
    """Number, mean, 95th percentile, maximum and histogram of token lengths.

    A field also has its budget (None: it is read whole), the molecules and tokens that the budget cuts, the
    molecules that leave it out because of the budget of the joined text, and the tokens that the tokenizer
    does not know.
    """

    present: int
    mean: float
    p95: int
    max: int
    histogram: Histogram
    budget: NotRequired[int | None]
    left_out: NotRequired[int]
    cut_molecules: NotRequired[int]
    cut_tokens: NotRequired[int]
    unknown: NotRequired[int]


@final
class TokenLengths(TypedDict):
    """Token lengths of a sample of molecules: of each field, and of the joined text within the budgets.

    The joined text has all fields; with `text.total_tokens` it has those of `text.fields` that fit.
    """

    encoder: str
    sample: int
    total_tokens: int | None
    fields: dict[str, TokenSpread]
    all: TokenSpread


@final
class TokensMissing(TypedDict):
    """Why tokens were not counted."""

    missing: str


class Overview(TypedDict):
    """Everything that `mmgnn data inspect` shows."""

    name: str
    rows: int
    shards: int
    bytes: int
    atoms: int
    elements: list[str]
    counts: MoleculeCounts
    sources: list[SourceEntry]
    versions: dict[str, str]
    splits: dict[str, SplitInfo]
    targets: dict[str, TargetOverview]
    sizes: Histogram
    coverage: dict[str, int]
    text_columns: dict[str, str]
    selection: SelectionEntry | None
    without_text: dict[str, dict[str, int]]
    states: StateCounts
    tokens: TokenLengths | TokensMissing


@dataclass(frozen=True)
class OverviewTable:
    """A table of the overview.

    Attributes:
        title: title above it.
        columns: headings.
        rows: cells of each row, and its histogram, None without one.
    """

    title: str
    columns: list[str]
    rows: list[tuple[list[str], Histogram | None]]
