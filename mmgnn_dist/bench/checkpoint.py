"""Benchmark of checkpoints: none, written by a thread during training, written while training waits.

The fused model with MiniLM fully trained (363 MB of DeepSpeed's files, and the averaged weights) trains in
blocks of steps on the same molecules, each kind of block in turn. A block with a checkpoint begins with it
and ends when it is complete on disk. `mmgnn bench checkpoint --shards DIR` prints the table.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

from mmgnn_dist.config import Recipe
from mmgnn_dist.files import write_json
from mmgnn_dist.process import make_owned_folder, remove_dead_folders, remove_owned_folder
from mmgnn_dist.progress import Progress
from mmgnn_dist.terminal import print_rows
from mmgnn_dist.train.checkpoint.host_copies import save_safetensors, seal
from mmgnn_dist.train.checkpoint.store import CHECKPOINT_MANIFEST, EMA, TAG
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.checkpoint.writer import Saver
from mmgnn_dist.train.engine import BatchPlan, compute_type, make_engine
from mmgnn_dist.train.inputs import open_inputs
from mmgnn_dist.train.optim.ema import Average
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.text_data import open_text_data


class BlockTimes(TypedDict):
    """Times of blocks of steps.

    Attributes:
        seconds: seconds of each block.
        median: their median.
        extra: median over the turns of the excess over the block without a checkpoint of the same turn, s.
    """

    seconds: list[float]
    median: float
    extra: float


class CheckpointBench(TypedDict):
    """Result of `checkpoint_bench`.

    Attributes:
        megabytes: size of a checkpoint.
        steps: steps in a block.
        batch: molecules in a step.
        none: blocks without a checkpoint.
        thread: blocks beside which a thread writes a checkpoint.
        waiting: blocks that begin with a checkpoint, for which training waits.
        ratio: extra time of `thread` divided by that of `waiting`.
    """

    megabytes: float
    steps: int
    batch: int
    none: BlockTimes
    thread: BlockTimes
    waiting: BlockTimes
    ratio: float


def checkpoint_bench(shards: Path, batch: int, steps: int, repeats: int) -> CheckpointBench:
    """Measure the seconds of a block of steps without a checkpoint and with one, in turns.

    Args:
        shards: a shard set with text.
        batch: molecules in a step.
        steps: steps in a block.
        repeats: blocks of each kind; the first block of each does not count.
    """
    recipe = Recipe.model_validate({"data": {"shards": shards}, "train": {"batch": batch}})
    ranks = init_distributed()
    inputs = open_inputs(recipe)
    with Progress("bench", quiet=True) as progress:
        text = open_text_data(inputs, ranks, progress)
    autocast = compute_type(recipe, ranks.device)
    loader = inputs.training(text.tokens, ranks)
    model = inputs.model(text.source, autocast)
    engine = make_engine(model, recipe, BatchPlan(batch, 1, ranks.world), ranks.device)
    average, molecules = Average(model), next(loader.epoch()).micro[0].to(ranks.device)
    remove_dead_folders(shards, ".mmgnn-bench-")
    folder = make_owned_folder(shards, ".mmgnn-bench-")
    saver = Saver(folder / "thread", engine, ranks, 1, {"encoder": None})
    state = TrainState()

    def train(done: Callable[[], None]) -> None:
        for _ in range(steps):
            scaled, _ = engine(molecules)
            engine.backward(scaled.square().mean())
            engine.step()
            average.update(0.999)
            state.step += 1
            done()

    def thread() -> None:
        saver.save(average.whole(), state.values())
        train(lambda: saver.poll(*saver.status()))
        saver.wait()

    def waiting() -> None:
        _save_and_wait(folder / "waiting", engine, average, state)
        train(lambda: None)

    kinds = {"none": lambda: train(lambda: None), "thread": thread, "waiting": waiting}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    try:
        for repeat in range(repeats + 1):
            for name, block in kinds.items():
                begin = time.perf_counter()
                block()
                if repeat:
                    seconds[name].append(time.perf_counter() - begin)
        written = sum(p.stat().st_size for p in (folder / "thread").rglob("*") if p.is_file())
    finally:
        saver.close()
        remove_owned_folder(folder)
    blocks = {name: _block_times(times, seconds["none"]) for name, times in seconds.items()}
    return {
        "megabytes": written / 1e6,
        "steps": steps,
        "batch": batch,
        "none": blocks["none"],
        "thread": blocks["thread"],
        "waiting": blocks["waiting"],
        "ratio": blocks["thread"]["extra"] / blocks["waiting"]["extra"],
    }


def _block_times(seconds: list[float], none: list[float]) -> BlockTimes:
    # difference within a turn, since the speed of a machine drifts over minutes
    extra = statistics.median(a - b for a, b in zip(seconds, none, strict=True))
    return {"seconds": seconds, "median": statistics.median(seconds), "extra": extra}


def _save_and_wait(folder: Path, engine: Any, average: Average, state: TrainState) -> None:
    """Write the same checkpoint in place by DeepSpeed, with the same checksums and syncs."""
    shutil.rmtree(folder, ignore_errors=True)
    engine.save_checkpoint(str(folder), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
    save_safetensors(average.whole(), folder / EMA)
    files = {str(p.relative_to(folder)): seal(p) for p in folder.rglob("*") if p.is_file()}
    write_json(folder / CHECKPOINT_MANIFEST, {**state.values(), "files": files})


def print_checkpoint_bench(result: CheckpointBench) -> None:
    """Print the result of `checkpoint_bench` as a table."""
    title = f"a checkpoint of {result['megabytes']:.0f} MB every {result['steps']} steps of {result['batch']}"
    labelled = {
        "none": result["none"],
        "written by a thread": result["thread"],
        "training waits": result["waiting"],
    }
    waiting = result["waiting"]["extra"]
    rows = [
        [label, f"{row['median']:.2f}", f"{row['extra']:.2f}", f"{row['extra'] / waiting:.0%}"]
        for label, row in labelled.items()
    ]
    print_rows(title, ["checkpoint", "s a block", "extra s", "of waiting"], rows)
