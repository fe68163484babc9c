"""Globally shuffled batches from memory-mapped shards; a step has the same molecules for any world size.

The order of an epoch depends on (seed, epoch) only, and its texts on (seed, epoch, row). An epoch is cut into
ceil(rows / batch) global batches whose sizes differ by at most one, so no remainder is too small for the
processes; each process takes and reads a share of equal cost of every global batch (see `sampling`). Without
shuffling, for evaluation, the processes take whole batches in turn: the computation of a batch is then
identical to the bit for any number of processes. A shuffled batch touches nearly every shard, so the loader
reads a window of many batches at a time (see `shardset.ragged`) and cuts it into views. The state is
(epoch, step): nothing is carried from window to window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmgnn_dist.data.loading.balance import Costs
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.borrowed_text import LENT, text_sources
from mmgnn_dist.data.loading.sampling import (
    InTurn,
    Place,
    Sampling,
    StratifiedSampling,
    UniformSampling,
    by_size,
)
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
        label_count: number of known labels of each target, int64 [T].
        counted: whether `label_count` covers the whole global batch, or this process's share alone.
        micro: this process's batches, one per forward pass.
        cost: predicted cost of this process's share; 0 if costs are not predicted.
    """

    index: int
    label_count: torch.Tensor
    counted: bool
    micro: list[Batch]
    cost: float


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
        stratified: with `shuffle`, draw the batches by strata of size (see `sampling`).
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
        stratified: bool = False,
    ):
        self.shards = shards
        self.rows = np.asarray(rows, np.int64)
        self.targets = list(targets)
        self.tokens = tokens
        self.fields = list(fields if fields is not None else tokens.fields) if tokens else []
        self.rank, self.world = rank, world
        _check_names("target", self.targets, shards.targets)
        _check_names("text field", self.fields, tokens.fields if tokens else [])
        if shuffle and not len(self.rows):
            raise UserError("empty split: no molecules to train on")
        bounds = batch_bounds(len(self.rows), batch)
        sizes = np.diff(bounds)
        largest = int(sizes.max(initial=1))
        most = -(-largest // world) if shuffle else largest
        self.passes = -(-most // micro) if micro else 1
        if shuffle and sizes.min() // world < self.passes:
            raise UserError(
                f"{len(self.rows)} molecules in batches of {sizes.min()} on {world} processes leave a "
                f"process without molecules in one of {self.passes} passes: take another train.batch={batch}"
                + (f" or train.micro_batch={micro}" if micro else "")
            )
        self._costs, self._known_costs = costs if shuffle else None, np.zeros(0)
        place = Place(rank, world, self.passes)
        self.sampling: Sampling
        if not shuffle:
            self.sampling = InTurn(self.rows, bounds, place, fill)
        elif stratified:
            self.sampling = StratifiedSampling(by_size(shards, self.rows), bounds, seed, place)
        else:
            cost_of = self._cost_of if costs else None
            self.sampling = UniformSampling(self.rows, bounds, seed, place, cost_of)
        self.steps_per_epoch = len(self.sampling.bounds) - 1
        window = window or max(WINDOW, WINDOW_PER_SHARD * len(shards.shards))
        self._steps_per_window = max(1, (window * world if shuffle else window) // largest)
        self._starts = shards.starts
        self._text = None
        if tokens is not None and self.fields:
            choice, sources = choice or TextChoice(), None
            if choice.control in LENT:
                has_text = tokens.lengths(self.fields) > 0
                sources = text_sources(shards, has_text, choice.control, choice.seed)
            self._text = TextInput(tokens, self.fields, shards.starts, choice, sources)
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
        # every process knows the labels of a global batch if it reads all of it, or if none is missing
        self._counted = world == 1 or not any(np.isnan(y[:, self._columns]).any() for y in self._y)

    def seen(self, steps: int) -> int:
        """Number of molecules in the first `steps` global batches of a run."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs * len(self.rows) + int(self.sampling.bounds[rest])

    def epoch(self, epoch: int = 0, start_step: int = 0) -> Iterator[Step]:
        """Yield the steps of an epoch from `start_step` on, the same as in the whole epoch."""
        for first in range(start_step, self.steps_per_epoch, self._steps_per_window):
            yield from self._window(epoch, first, min(first + self._steps_per_window, self.steps_per_epoch))

    def _window(self, epoch: int, first: int, last: int) -> Iterator[Step]:
        """Read this process's share of the steps from `first` to before `last` and cut it apart."""
        share = self.sampling.share(epoch, first, last)
        plan = GatherPlan(share.rows, self._starts)
        y = plan.fixed(self._y)
        if len(self._columns) != y.shape[1] or (np.diff(self._columns) != 1).any():
            y = np.take(y, self._columns, axis=1)
        y_mask = ~np.isnan(y)
        passes = np.array(share.passes)
        bounds = np.concatenate([[0], np.cumsum(share.sizes)])[np.concatenate([[0], np.cumsum(passes)])]
        known = np.concatenate([np.zeros((1, y_mask.shape[1]), np.int64), np.cumsum(y_mask, axis=0)])
        count = known[bounds[1:]] - known[bounds[:-1]]
        if self._counted and self.world > 1:
            count = np.broadcast_to(np.diff(self.sampling.bounds[first : last + 1])[:, None], count.shape)
        labels = torch.tensor(count).unbind()
        y[~y_mask] = 0
        batches, costs = self._batches(epoch, share.rows, plan, y, y_mask, share.sizes)
        of_steps = np.add.reduceat(costs, bounds[:-1]).tolist() if len(costs) else [0.0] * len(passes)
        micro = iter(batches)
        for i, own in enumerate(share.passes):
            own_micro = [next(micro) for _ in range(own)]
            yield Step(first + i, labels[i], self._counted, own_micro, of_steps[i])

    def _cost_of(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Predicted cost of some molecules of any process in an epoch, float64 [M]."""
        if self._text and self._text.varies:
            return self._predicted(rows, epoch)
        if not len(self._known_costs):
            self._known_costs = np.zeros(self.shards.rows)
            self._known_costs[self.rows] = self._predicted(self.rows, epoch)
        return self._known_costs[rows]

    def _predicted(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        plan = GatherPlan(rows, self._starts)
        tokens = self._text.lengths(rows, plan, epoch) if self._text else np.zeros(len(rows), np.int64)
        assert self._costs
        return self._costs.of(plan.lengths(self._ptr), tokens)

    def _batches(
        self,
        epoch: int,
        rows: np.ndarray,
        plan: GatherPlan,
        y: np.ndarray,
        y_mask: np.ndarray,
        sizes: np.ndarray,
    ) -> tuple[list[Batch], np.ndarray]:
        """All micro-batches of a window as views of its columns, and the predicted costs of its molecules.

        `sizes` holds the numbers of molecules of the micro-batches; costs are [] if they are not predicted.
        """
        if not len(sizes):
            return [], np.zeros(0)
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
        batches = [
            Batch(*views) for views in zip(*(torch.from_numpy(c).split(n) for c, n in columns), strict=True)
        ]
        return batches, self._costs.of(np.diff(ptr), np.diff(token_ptr)) if self._costs else np.zeros(0)

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
