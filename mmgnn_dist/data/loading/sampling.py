"""Which molecules of an epoch a rank reads, step by step and pass by pass.

Every step has the same molecules for any number of ranks, and the order is a function of (seed, epoch). A
rank learns the rows of its own share and reads no other molecule.

`UniformSampling` cuts a permutation of all rows into global batches. Equal cost needs the costs of all
molecules of a batch, so each rank sorts the costs of the whole batch, and its work grows with the batch. In
each round the lightest rank gets the largest molecule.

`StratifiedSampling` sorts the rows by size once and cuts them into strata of as many molecules as an epoch
has steps. Each step takes one molecule of every stratum, in an order drawn anew for every stratum and epoch,
and a rank owns whole strata (Cochran, "Sampling techniques", chapter 5). Shares then have nearly equal cost,
and a rank draws the orders of its own strata alone: its work does not depend on the number of ranks. Strata
go to ranks like a snake, from the largest down: 0, 1, 2, 2, 1, 0, 0, 1, …

No share of either has two molecules more than another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from mmgnn_dist.data.shardset.hashing import draw
from mmgnn_dist.data.shardset.shards import STRING_FIELDS, ShardSet

STRATA = 5  # stream of random numbers of the strata; the text has others
COST_BITS = 40  # of an integer cost
NONE = np.iinfo(np.int64).max  # sorts behind every molecule

CostOf = Callable[[np.ndarray, int], np.ndarray]  # rows [M] and epoch -> predicted costs [M]


@dataclass(frozen=True)
class Place:
    """A rank among all ranks, and the passes of each in a step."""

    rank: int
    world: int
    passes: int


@dataclass(frozen=True)
class Share:
    """Molecules of one rank in some steps.

    Attributes:
        rows: global rows, int64 [M], in the order of the micro-batches.
        sizes: molecules of each micro-batch, int64 [micro-batches].
        passes: micro-batches of each step.
    """

    rows: np.ndarray
    sizes: np.ndarray
    passes: list[int]


class Sampling(ABC):
    """The shares of a rank in an epoch.

    Args:
        rows: global rows, int64 [R].
        bounds: bounds of the global batches in an epoch, int64 [steps + 1].
    """

    def __init__(self, rows: np.ndarray, bounds: np.ndarray) -> None:
        self.rows, self.bounds = rows, bounds

    @abstractmethod
    def share(self, epoch: int, first: int, last: int) -> Share:
        """Own molecules of the steps from `first` to before `last`."""

    @abstractmethod
    def batch(self, epoch: int, step: int) -> np.ndarray:
        """Rows of the global batch of a step, int64 [G]."""


class InTurn(Sampling):
    """The rows as they stand, for evaluation: the ranks take whole batches in turn.

    Args:
        rows: global rows, int64 [R].
        bounds: bounds of the batches of single ranks, int64 [batches + 1].
        place: this rank.
        fill: a rank that would have no batch takes the first molecule of the step.
    """

    def __init__(self, rows: np.ndarray, bounds: np.ndarray, place: Place, fill: bool) -> None:
        super().__init__(rows, np.append(bounds[: -1 : place.world], len(rows)))
        self._batches, self._place, self._fill = bounds, place, fill

    def share(self, epoch: int, first: int, last: int) -> Share:
        """Own molecules of the steps from `first` to before `last`."""
        parts: list[np.ndarray] = []
        passes = []
        for step in range(first, last):
            batch = step * self._place.world + self._place.rank
            if batch + 1 < len(self._batches):
                own = [self.rows[self._batches[batch] : self._batches[batch + 1]]]
            else:
                own = [self.rows[self.bounds[step] : self.bounds[step] + 1]] if self._fill else []
            parts += own
            passes.append(len(own))
        rows = np.concatenate(parts) if parts else self.rows[:0]
        return Share(rows, np.array([len(part) for part in parts], np.int64), passes)

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """Rows of all ranks' batches of a step, int64 [G]."""
        return self.rows[self.bounds[step] : self.bounds[step + 1]]


class UniformSampling(Sampling):
    """Global batches cut from a permutation of all rows.

    Args:
        rows: global rows, int64 [R].
        bounds: bounds of the global batches in an epoch, int64 [steps + 1].
        seed: seed of the permutations.
        place: this rank.
        cost_of: predicted costs; None: every molecule costs the same.
    """

    def __init__(
        self, rows: np.ndarray, bounds: np.ndarray, seed: int, place: Place, cost_of: CostOf | None
    ) -> None:
        super().__init__(rows, bounds)
        self._seed, self._place, self._cost_of = seed, place, cost_of
        self._order = -1, rows

    def order(self, epoch: int) -> np.ndarray:
        """The rows in the order of an epoch, int64 [R]."""
        if self._order[0] != epoch:
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, epoch])))
            self._order = epoch, generator.permutation(self.rows)
        return self._order[1]

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """Rows of the global batch of a step, int64 [G]."""
        return self.order(epoch)[self.bounds[step] : self.bounds[step + 1]]

    def share(self, epoch: int, first: int, last: int) -> Share:
        """Own molecules of the steps from `first` to before `last`."""
        bounds = self.bounds[first : last + 1]
        window = self.order(epoch)[bounds[0] : bounds[-1]]
        sizes = np.diff(bounds)
        if self._place.world == self._place.passes == 1:
            return Share(window, sizes, [1] * len(sizes))
        costs = np.ones(len(window)) if self._cost_of is None else self._cost_of(window, epoch)
        weight, place = largest_first(costs, bounds - bounds[0])
        chosen = np.stack([part == self._place.rank for part in _rounds(weight, self._place.world)], axis=1)
        column = chosen.argmax(axis=2) + np.arange(chosen.shape[1]) * self._place.world
        column = np.minimum(column, weight.shape[1] - 1)
        place = np.where(chosen.any(axis=2), np.take_along_axis(place, column, axis=1), -1)
        weight = np.where(place < 0, 0, np.take_along_axis(weight, column, axis=1))
        passes = np.concatenate(list(_rounds(weight, self._place.passes)), axis=1)[:, : place.shape[1]]
        return _laid_out(window, place, passes, self._place.passes)


class StratifiedSampling(Sampling):
    """Global batches with one molecule of every stratum.

    Args:
        ranked: global rows from the largest molecule to the smallest, int64 [R].
        bounds: bounds of the global batches in an epoch, int64 [steps + 1].
        seed: seed of the orders.
        place: this rank.
    """

    def __init__(self, ranked: np.ndarray, bounds: np.ndarray, seed: int, place: Place) -> None:
        super().__init__(ranked, bounds)
        self._seed, self._place = seed, place
        self._steps = len(bounds) - 1
        self._whole = len(ranked) // self._steps  # strata with a molecule for every step
        self._larger = np.flatnonzero(np.diff(bounds) > self._whole)  # steps that also have one of the rest
        self._own = snake(self._whole + (len(self._larger) > 0), place.world, place.rank)
        self._table: tuple[int, np.ndarray] = -1, ranked
        self._all: tuple[int, np.ndarray] = -1, ranked  # the first rank notes the molecules of all ranks

    def share(self, epoch: int, first: int, last: int) -> Share:
        """Own molecules of the steps from `first` to before `last`."""
        if self._table[0] != epoch:
            self._table = epoch, self._drawn(epoch, self._own)
        passes = np.empty(len(self._own), np.int64)
        for part in range(self._place.passes):
            passes[snake(len(passes), self._place.passes, part)] = part
        return _laid_out(self.rows, self._table[1][first:last], passes, self._place.passes)

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """Rows of the global batch of a step, int64 [G]."""
        if self._all[0] != epoch:
            self._all = epoch, self._drawn(epoch, np.arange(self._whole + (len(self._larger) > 0)))
        place = self._all[1][step]
        return self.rows[place[place >= 0]]

    def _drawn(self, epoch: int, strata: np.ndarray) -> np.ndarray:
        """Places in `rows` of the molecules of some strata for every step, [steps, strata]; -1 for none."""
        table = np.full((self._steps, len(strata)), -1, np.int64)
        whole = strata < self._whole
        table[:, whole] = self._mixed(epoch, strata[whole], self._steps).T
        if not whole.all():
            table[self._larger, -1] = self._mixed(epoch, strata[-1:], len(self._larger))
        return table

    def _mixed(self, epoch: int, strata: np.ndarray, count: int) -> np.ndarray:
        """Places of the first `count` molecules of each stratum in an order of its own, [strata, count]."""
        first = strata[:, None] * self._steps
        bits = np.uint64(max(count - 1, 1).bit_length())
        random = draw((STRATA, self._seed, epoch), (first + np.arange(count)).ravel()).reshape(-1, count)
        # a random number and the place in one integer: sorting it is the quickest way to a permutation
        keys = (random >> bits << bits) | np.arange(count, dtype=np.uint64)
        keys.sort(axis=1)
        return first + (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)


def by_size(shards: ShardSet, rows: np.ndarray) -> np.ndarray:
    """Rows sorted from the largest molecule to the smallest, by atoms, then by the length of its text.

    The length rises and falls in turn from one number of atoms to the next, so that neighbours have like
    texts too. It reads the set alone, never the recipe: all arms of a study have the same order.
    """
    atoms = np.concatenate([np.diff(shard.ptr) for shard in shards.shards])[rows]
    text = np.zeros(shards.rows, np.int64)
    for name in STRING_FIELDS:
        lengths = pc.fill_null(pc.binary_length(shards.column(name)), 0)
        text += lengths.to_numpy()
    turned = np.where(atoms % 2, text[rows], -text[rows])
    return rows[np.lexsort((turned, -atoms))]


def snake(count: int, parts: int, part: int) -> np.ndarray:
    """Places of one of `parts` if `count` things are dealt like a snake, ascending."""
    rounds = np.arange(-(-count // parts))
    places = rounds * parts + np.where(rounds % 2, parts - 1 - part, part)
    return places[places < count]


def largest_first(costs: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the molecules of each batch by falling cost.

    Args:
        costs: predicted cost of each molecule, [M].
        cuts: bounds of the batches in `costs`, int64 [batches + 1]; their sizes differ by at most one.

    Returns:
        Costs in units of the largest by 2^40, and places in `costs`, both int64 [batches, largest size]; 0
        and -1 at the end of a batch that is smaller.
    """
    sizes = np.diff(cuts)
    largest = int(sizes.max())
    # integers of cost and place sort alike on every machine, and several times as fast as an indirect sort
    bits = max(largest - 1, 1).bit_length()
    scaled = ((1.0 - costs / costs.max()) * (1 << COST_BITS)).astype(np.int64) << bits
    columns = np.arange(largest)
    keys = scaled[np.minimum(cuts[:-1, None] + columns, len(costs) - 1)] | columns
    keys[sizes < largest, -1] = NONE
    keys.sort(axis=1)
    weight, place = (1 << COST_BITS) - (keys >> bits), cuts[:-1, None] + (keys & ((1 << bits) - 1))
    weight[keys == NONE], place[keys == NONE] = 0, -1
    return weight, place


def _rounds(weight: np.ndarray, parts: int) -> Iterator[np.ndarray]:
    """Deal the molecules of some batches in rounds; in each, the lightest part gets the largest molecule.

    Args:
        weight: costs of the molecules of each batch, int64 [batches, n], falling.
        parts: number of parts.

    Yields:
        The part of each molecule of a round, int64 [batches, parts]; the last round may go beyond n.
    """
    bits = max(parts - 1, 1).bit_length()
    loads = np.broadcast_to(np.arange(parts), (len(weight), parts)).copy()  # load and part in one integer
    for first in range(0, weight.shape[1], parts):
        dealt = weight[:, first : first + parts]
        part = loads & ((1 << bits) - 1)
        part[:, dealt.shape[1] :] = -1
        yield part
        loads[:, : dealt.shape[1]] += dealt << bits
        loads.sort(axis=1)


def _laid_out(rows: np.ndarray, place: np.ndarray, part: np.ndarray, passes: int) -> Share:
    """Lay out a rank's molecules step by step and pass by pass.

    Args:
        rows: global rows.
        place: place of each molecule in `rows`, int64 [steps, n]; -1 for none.
        part: pass of each molecule, int64 [steps, n] or [n].
        passes: passes of a step.
    """
    part = np.where(place < 0, passes, part)
    if passes > 1:
        place = np.take_along_axis(place, np.argsort(part, axis=1, kind="stable"), axis=1)
    sizes = np.stack([(part == number).sum(axis=1) for number in range(passes)], axis=1)
    return Share(rows[place[place >= 0]], sizes.ravel(), [passes] * len(place))
