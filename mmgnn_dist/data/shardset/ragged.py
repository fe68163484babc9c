"""Ragged gathers from memory-mapped shards: index arithmetic on whole arrays, no Python object per molecule.

The requested rows are sorted, so each shard is visited once and read in order. The values land in a stage in
that order, and one more gather puts them into the requested order. The stage fits into the CPU cache, so the
second pass costs less than scattering from each shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np


def ragged_index(start: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of many runs laid end to end.

    Args:
        start: where each run begins in the source, int64 [R].
        count: length of each run, int64 [R].

    Returns:
        index int64 [sum(count)] into the source, and offsets int64 [R + 1] of the runs in the result.
    """
    offsets = np.zeros(len(count) + 1, np.int64)
    np.cumsum(count, out=offsets[1:])
    index = np.repeat(start - offsets[:-1], count)
    index += np.arange(offsets[-1])
    return index, offsets


@dataclass(frozen=True)
class Visit:
    """The requested rows of one shard: rows `local` of shard `shard` go to `first:last` of the stage."""

    shard: int
    local: np.ndarray
    first: int
    last: int


class GatherPlan:
    """How a set of global rows is read: shard by shard, ascending.

    Attributes:
        slot: position in the stage of each requested row, int64 [M].
        visits: one per shard that has requested rows.
    """

    def __init__(self, rows: np.ndarray, starts: np.ndarray):
        order = np.argsort(rows)
        ascending = rows[order]
        self.slot = np.empty(len(rows), np.int64)
        self.slot[order] = np.arange(len(rows))
        cuts = np.searchsorted(ascending, starts)
        self.visits = [
            Visit(s, ascending[cuts[s] : cuts[s + 1]] - starts[s], int(cuts[s]), int(cuts[s + 1]))
            for s in np.flatnonzero(np.diff(cuts)).tolist()
        ]

    def fixed(self, column: Sequence[np.ndarray]) -> np.ndarray:
        """Rows of a column of equal-sized rows (one array [rows, ...] per shard), in the requested order."""
        stage = np.empty((len(self.slot), *column[0].shape[1:]), column[0].dtype)
        for visit in self.visits:
            np.take(
                column[visit.shard], visit.local, axis=0, out=stage[visit.first : visit.last], mode="clip"
            )
        return stage[self.slot]

    def lengths(self, ptrs: Sequence[np.ndarray]) -> np.ndarray:
        """Lengths of the runs of the requested rows, int64 [M]; `ptrs` as in `ragged`."""
        count = np.empty(len(self.slot), np.int64)
        for visit in self.visits:
            ptr = ptrs[visit.shard]
            np.subtract(ptr[1:][visit.local], ptr[visit.local], out=count[visit.first : visit.last])
        return count[self.slot]

    def one_of(self, items: Sequence[np.ndarray], place: np.ndarray) -> GatherPlan:
        """The plan that reads one run of each row, where a row has several.

        Args:
            items: for each shard the offsets of the runs of each row, int64 [rows + 1]; each row has at least
                one run.
            place: which of the runs, as a fraction of their number in [0, 1), float64 [M].
        """
        staged = np.empty(len(place))
        staged[self.slot] = place
        plan = copy(self)
        plan.visits = []
        for visit in self.visits:
            first = items[visit.shard][visit.local]
            number = items[visit.shard][visit.local + 1] - first
            chosen = first + (staged[visit.first : visit.last] * number).astype(np.int64)
            plan.visits.append(replace(visit, local=chosen))
        return plan

    def ragged(
        self, ptrs: Sequence[np.ndarray], *columns: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Runs of ragged columns, still in the order of the stage.

        Args:
            ptrs: run offsets of each shard, int64 [rows + 1].
            columns: flat values of each shard, [values, ...], all with the offsets `ptrs`.

        Returns:
            For each requested row, where its run begins in the stage (int64 [M]) and its length (int64 [M]);
            and the stage of each column.
        """
        start = np.empty(len(self.slot), np.int64)
        count = np.empty_like(start)
        for visit in self.visits:
            ptr, span = ptrs[visit.shard], slice(visit.first, visit.last)
            start[span] = ptr[visit.local]
            np.subtract(ptr[1:][visit.local], start[span], out=count[span])
        index, offsets = ragged_index(start, count)
        stages = [np.empty((len(index), *column[0].shape[1:]), column[0].dtype) for column in columns]
        for visit in self.visits:
            span = slice(offsets[visit.first], offsets[visit.last])
            for column, stage in zip(columns, stages, strict=True):
                np.take(column[visit.shard], index[span], axis=0, out=stage[span], mode="clip")
        return offsets[self.slot], count[self.slot], stages
