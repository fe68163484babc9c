"""Ragged gathers from memory-mapped shards: index arithmetic on whole arrays, no Python object per molecule.

The rows asked for are sorted, so that each shard is visited once and read in order; what is read lands in a
stage in that order, and one more gather puts it into the order asked for. The stage fits the CPU's cache,
which is why the second pass costs less than scattering from each shard would.
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
    """The rows wanted of one shard: `local` rows of shard `shard` go to slots `first:last` of the stage."""

    shard: int
    local: np.ndarray
    first: int
    last: int


class GatherPlan:
    """How a set of global rows is read: shard by shard, ascending.

    Attributes:
        slot: place in the stage of each row asked for, int64 [M].
        visits: one per shard that is touched.
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
        """Rows of a column of equal-sized rows (one array [rows, ...] per shard), in the order asked for."""
        stage = np.empty((len(self.slot), *column[0].shape[1:]), column[0].dtype)
        for visit in self.visits:
            np.take(
                column[visit.shard], visit.local, axis=0, out=stage[visit.first : visit.last], mode="clip"
            )
        return stage[self.slot]

    def lengths(self, ptrs: Sequence[np.ndarray]) -> np.ndarray:
        """Lengths of the runs of the rows asked for, int64 [M]; `ptrs` as in `ragged`."""
        count = np.empty(len(self.slot), np.int64)
        for visit in self.visits:
            ptr = ptrs[visit.shard]
            np.subtract(ptr[1:][visit.local], ptr[visit.local], out=count[visit.first : visit.last])
        return count[self.slot]

    def one_of(self, items: Sequence[np.ndarray], place: np.ndarray) -> GatherPlan:
        """The plan for one run of each row, where a row has several.

        Args:
            items: for each shard where the runs of each row begin and end, int64 [rows + 1]; each row has one
                at least.
            place: which of them, as a share of their number in [0, 1), float64 [M].
        """
        staged = np.empty(len(place))
        staged[self.slot] = place
        other = copy(self)
        other.visits = []
        for visit in self.visits:
            first = items[visit.shard][visit.local]
            number = items[visit.shard][visit.local + 1] - first
            chosen = first + (staged[visit.first : visit.last] * number).astype(np.int64)
            other.visits.append(replace(visit, local=chosen))
        return other

    def ragged(
        self, ptrs: Sequence[np.ndarray], *columns: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Runs of ragged columns, still in the order of the stage.

        Args:
            ptrs: run offsets of each shard, int64 [rows + 1].
            columns: flat values of each shard, [values, ...], all with the offsets `ptrs`.

        Returns:
            For each row asked for, where its run begins in the stage (int64 [M]) and its length (int64 [M]);
            and the stage of each column.
        """
        start = np.empty(len(self.slot), np.int64)
        count = np.empty_like(start)
        for visit in self.visits:
            ptr, place = ptrs[visit.shard], slice(visit.first, visit.last)
            start[place] = ptr[visit.local]
            np.subtract(ptr[1:][visit.local], start[place], out=count[place])
        index, offsets = ragged_index(start, count)
        stages = [np.empty((len(index), *column[0].shape[1:]), column[0].dtype) for column in columns]
        for visit in self.visits:
            place = slice(offsets[visit.first], offsets[visit.last])
            for column, stage in zip(columns, stages, strict=True):
                np.take(column[visit.shard], index[place], axis=0, out=stage[place], mode="clip")
        return offsets[self.slot], count[self.slot], stages
