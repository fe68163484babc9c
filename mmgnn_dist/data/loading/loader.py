"""Globally shuffled batches from memory-mapped shards; a step has the same molecules for any world size.

The order of an epoch depends on (seed, epoch) only, and its texts on (seed, epoch, row). An epoch is cut into
ceil(rows / batch) global batches whose sizes differ by at most one, so no remainder is too small for the
processes; each process takes a share of equal cost of every global batch (see `balance`). Without shuffling,
for evaluation, the processes take whole batches in turn: the computation of a batch is then identical to the
bit for any number of processes. A shuffled batch touches nearly every shard, so the loader reads a window of
many batches at a time (see `shardset.ragged`) and cuts it into views. The state is (epoch, step): nothing is
carried from window to window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from mmgnn_dist.data.loading.balance import Costs, deal, imbalance
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.text_input import TextChoice, TextInput, no_text
from mmgnn_dist.data.shardset.ragged import GatherPlan, ragged_index
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.errors import UserError, nearest

WINDOW = 8192  # molecules read at a time: about 8 MB, which fits into the CPU cache
WINDOW_PER_SHARD = 32  # fewest molecules of a window per shard; with fewer, visits cost more than bytes


@dataclass(slots=True)
class Step:
    """One step of this process.

    Attributes:
        index: step within the epoch.
        global_rows: molecules of the whole global batch, int64 [G], the same on every process.
        label_count: number of known labels of each target in the whole global batch, int64 [T].
        micro: this process's batches, one per forward pass.
        imbalance: imbalance of the predicted cost over the processes, see `balance.imbalance`.
    """

    index: int
    global_rows: np.ndarray
    label_count: torch.Tensor
    micro: list[Batch]
    imbalance: float


class Loader:
    """Batches of some rows of a shard set.

    Args:
        shards: the shard set.
        rows: global rows, int64 [R], such as a part of a split.
        targets: names of the targets of `Batch.y`, in order.
        tokens: token runs, or None for batches without text.
        fields: fields to join, in order; None for all of `tokens`.
        choice: how the text is changed (see `text_input`); None: it is read as it is.
        batch: molecules in a global batch; without shuffling, in the batch of one process.
        seed: seed of the order.
        rank: number of this process, from 0.
        world: number of processes.
        micro: most molecules of a process in one forward pass; None: its whole share.
        shuffle: False keeps the order of `rows`; each step then has one batch per process, and the last step
            may have none for some processes. With True every process has `passes` micro-batches in every
            step.
        fill: without `shuffle`, a process that would have no batch takes the first molecule of the step, for
            cases in which all processes must make the same passes.
        costs: predicted costs of the molecules, for shares of equal cost; None: every molecule costs the
            same.
        window: molecules that this process reads at a time; affects only speed and memory.

    Attributes:
        shards: the shard set.
        steps_per_epoch: global batches in an epoch.
        passes: micro-batches of each process in a step.

    Raises:
        UserError: no rows, an unknown target or field, or a step (with `shuffle`) that leaves a process
            without molecules.
    """

    def __init__(
        self,
        shards: ShardSet,
        rows: np.ndarray,
        targets: list[str],
        tokens: TokenSet | None = None,
        fields: Sequence[str] | None = None,
        batch: int = 32,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        micro: int | None = None,
        shuffle: bool = True,
        window: int | None = None,
        choice: TextChoice | None = None,
        fill: bool = False,
        costs: Costs | None = None,
    ):
        self.shards = shards
        self.rows = np.asarray(rows, np.int64)
        self.targets = list(targets)
        self.tokens = tokens
        self.fields = list(fields if fields is not None else tokens.fields) if tokens else []
        self.seed, self.rank, self.world, self.shuffle, self.fill = seed, rank, world, shuffle, fill
        _check_names("target", self.targets, shards.targets)
        _check_names("text field", self.fields, tokens.fields if tokens else [])
        if shuffle and not len(self.rows):
            raise UserError("empty split: no molecules to train on")
        self._bounds = self._batch_bounds = batch_bounds(len(self.rows), batch)
        if not shuffle:
            self._bounds = np.append(self._batch_bounds[:-1:world], len(self.rows))
        self.steps_per_epoch = len(self._bounds) - 1
        sizes = np.diff(self._bounds)
        largest = int(sizes.max(initial=1))
        most = -(-largest // world)
        self.passes = -(-most // micro) if micro else 1
        self._micro = micro or largest
        self._costs = costs
        if shuffle and sizes.min() // world < self.passes:
            raise UserError(
                f"{len(self.rows)} molecules in batches of {sizes.min()} on {world} processes leave a "
                f"process without molecules in one of {self.passes} passes: take another train.batch={batch}"
                + (f" or train.micro_batch={micro}" if micro else "")
            )
        window = window or max(WINDOW, WINDOW_PER_SHARD * len(shards.shards))
        self._steps_per_window = max(1, window * world // largest)
        self._starts = shards.starts
        self._text = None
        if tokens is not None and self.fields:
            self._text = TextInput(tokens, self.fields, shards.starts, choice or TextChoice())
        self._ptr = [shard.ptr for shard in shards.shards]
        self._z = [shard.z for shard in shards.shards]
        self._pos = [shard.pos for shard in shards.shards]
        self._y = [shard.y for shard in shards.shards]
        self._context = [shard.context for shard in shards.shards]
        self._states: list[list[np.ndarray]] = []
        if shards.has_states:
            self._states = [
                [shard.charge for shard in shards.shards],
                [shard.multiplicity for shard in shards.shards],
            ]
        self._columns = np.array([shards.targets.index(target) for target in self.targets], np.int64)

    def seen(self, steps: int) -> int:
        """Number of molecules in the first `steps` global batches of a run."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs * len(self.rows) + int(self._bounds[rest])

    def order(self, epoch: int) -> np.ndarray:
        """The rows in the order of an epoch, which depends on (seed, epoch) only, int64 [R]."""
        if not self.shuffle:
            return self.rows
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch]))).permutation(
            self.rows
        )

    def epoch(self, epoch: int = 0, start_step: int = 0) -> Iterator[Step]:
        """Yield the steps of an epoch from `start_step` on, the same as in the whole epoch."""
        order = self.order(epoch)
        for first in range(start_step, self.steps_per_epoch, self._steps_per_window):
            last = min(first + self._steps_per_window, self.steps_per_epoch)
            yield from self._window(epoch, first, self._bounds[first : last + 1], order)

    def _window(self, epoch: int, first: int, bounds: np.ndarray, order: np.ndarray) -> Iterator[Step]:
        """Read the steps whose global batches are order[bounds[i]:bounds[i + 1]] and cut them apart."""
        window_rows = order[bounds[0] : bounds[-1]]
        cuts = bounds - bounds[0]
        places = np.arange(len(window_rows))
        plan = GatherPlan(window_rows, self._starts)
        parts: list[np.ndarray] = []
        passes, imbalances = [], []  # micro-batches of each step, imbalance of each step
        costs = self._predicted(window_rows, plan, epoch)
        for i, (a, b) in enumerate(pairwise(cuts.tolist())):
            own_passes, step_imbalance = (
                self._share(costs[a:b]) if self.shuffle else (self._turn(first + i), 0.0)
            )
            parts += [places[a:b][part] for part in own_passes]
            passes.append(len(own_passes))
            imbalances.append(step_imbalance)
        y = plan.fixed(self._y)
        if len(self._columns) != y.shape[1] or (np.diff(self._columns) != 1).any():
            y = np.take(y, self._columns, axis=1)
        y_mask = ~np.isnan(y)
        labels = torch.from_numpy(np.add.reduceat(y_mask, cuts[:-1], axis=0, dtype=np.int64)).unbind()
        own_places = np.concatenate(parts) if parts else places[:0]
        if self.world > 1:
            plan, y, y_mask = (
                GatherPlan(window_rows[own_places], self._starts),
                y[own_places],
                y_mask[own_places],
            )
        y[~y_mask] = 0
        sizes = np.array([len(part) for part in parts], np.int64)
        micro = iter(self._batches(epoch, window_rows[own_places], plan, y, y_mask, sizes))
        for i, (a, b) in enumerate(pairwise(cuts.tolist())):
            own_micro = [next(micro) for _ in range(passes[i])]
            yield Step(first + i, window_rows[a:b], labels[i], own_micro, imbalances[i])

    def _predicted(self, rows: np.ndarray, plan: GatherPlan, epoch: int) -> np.ndarray:
        """Predicted cost of each molecule of a window, float64 [M]."""
        if self._costs is None or not self.shuffle:
            return np.ones(len(rows))
        tokens = self._text.lengths(rows, plan, epoch) if self._text else np.zeros(len(rows), np.int64)
        return self._costs.of(plan.lengths(self._ptr), tokens)

    def _share(self, costs: np.ndarray) -> tuple[list[np.ndarray], float]:
        """This process's passes of a global batch, as positions in it, and the imbalance of all processes."""
        shares = deal(costs, self.world, self.passes, self.passes * self._micro)
        own_share = shares[self.rank]
        own_passes = [own_share[part] for part in deal(costs[own_share], self.passes, 1, self._micro)]
        return own_passes, imbalance(np.array([costs[share].sum() for share in shares]))

    def _turn(self, step: int) -> list[np.ndarray]:
        """This process's batch of an evaluation step, as positions in the step's molecules; [] for none."""
        batch_index = step * self.world + self.rank
        if batch_index + 1 >= len(self._batch_bounds):
            return [np.arange(1)] if self.fill else []
        return [np.arange(*self._batch_bounds[batch_index : batch_index + 2]) - self._bounds[step]]

    def _batches(
        self,
        epoch: int,
        rows: np.ndarray,
        plan: GatherPlan,
        y: np.ndarray,
        y_mask: np.ndarray,
        sizes: np.ndarray,
    ) -> list[Batch]:
        """All micro-batches of a window as views of its columns; `sizes` holds their numbers of molecules."""
        if not len(sizes):
            return []
        z, pos, ptr = self._atoms(plan)
        tokens, token_ptr = self._text.read(rows, plan, epoch) if self._text else no_text(len(rows))
        context = plan.fixed(self._context)
        context_mask = ~np.isnan(context)
        context[~context_mask] = 0
        ends = np.cumsum(sizes)
        molecules = sizes.tolist()
        atoms = np.diff(ptr[ends], prepend=0).tolist()
        ids = np.diff(token_ptr[ends], prepend=0).tolist()
        pointers = (sizes + 1).tolist()
        columns = (
            (rows, molecules),
            (z, atoms),
            (pos, atoms),
            (_local_pointers(ptr, sizes), pointers),
            (y, molecules),
            (y_mask, molecules),
            (tokens, ids),
            (_local_pointers(token_ptr, sizes), pointers),
            (context, molecules),
            (context_mask, molecules),
            *((plan.fixed(column).astype(np.int64), molecules) for column in self._states),
        )
        return [
            Batch(*views) for views in zip(*(torch.from_numpy(c).split(n) for c, n in columns), strict=True)
        ]

    def _atoms(self, plan: GatherPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Atomic numbers int64 [N], positions [N, 3] and offsets [M + 1] in the order of the plan's rows."""
        start, count, (z, pos) = plan.ragged(self._ptr, self._z, self._pos)
        index, ptr = ragged_index(start, count)
        return z[index].astype(np.int64), np.take(pos, index, axis=0), ptr


def batch_bounds(rows: int, batch: int) -> np.ndarray:
    """Bounds of the global batches of an epoch, int64 [steps + 1].

    The rows are divided into ceil(rows / batch) batches whose sizes differ by at most one.
    """
    steps = -(-rows // batch)
    return np.arange(steps + 1, dtype=np.int64) * rows // max(steps, 1)


def _local_pointers(offsets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Offsets of a window, cut into batches of `sizes` molecules, each from 0, int64 [sum(sizes + 1)]."""
    first = np.cumsum(sizes) - sizes
    index, _ = ragged_index(first, sizes + 1)
    return offsets[index] - np.repeat(offsets[first], sizes + 1)


def _check_names(kind: str, names: Sequence[str], allowed: Sequence[str]) -> None:
    for name in names:
        if name not in allowed:
            raise UserError(
                f"unknown {kind} '{name}'{nearest(name, allowed)}; there are: {', '.join(allowed)}"
            )
