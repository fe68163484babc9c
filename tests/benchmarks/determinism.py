"""What `train.deterministic` costs: steps with and without it, in turns, for every backbone with MiniLM.

    python tests/benchmarks/determinism.py SHARDS [--batch 16] [--steps 4] [--rounds 5]

Each backbone at its default setting, MiniLM fully trained, on the accelerator if there is one. On a CPU the
clock is that of the process, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import torch

from mmgnn_dist.config import load_recipe
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.engine import BatchPlan, compute_type, make_engine
from mmgnn_dist.train.inputs import open_inputs
from mmgnn_dist.train.ranks import init_distributed, set_deterministic
from mmgnn_dist.train.text_data import open_text_data

BACKBONES = ("schnet", "painn", "dimenetpp", "equiformer", "faenet")


def steps_of(backbone: str, shards: Path, batch: int, *words: str):
    """A function that trains some steps on one batch and waits for them."""
    chosen = f"model.backbone={{name: {backbone}}}"
    recipe = load_recipe(None, [f"data.shards={shards}", f"train.batch={batch}", chosen, *words])
    ranks = init_distributed(1)
    inputs = open_inputs(recipe)
    with Progress("bench", quiet=True) as progress:
        text = open_text_data(inputs, ranks, progress)
    model = inputs.model(text.source, compute_type(recipe, ranks.device))
    engine = make_engine(model, recipe, BatchPlan(batch, 1, 1), ranks.device)
    molecules = next(inputs.training(text.tokens, ranks).epoch()).micro[0].to(ranks.device)

    clock = time.perf_counter if ranks.device.type == "cuda" else time.process_time

    def train(steps: int) -> float:
        begin = clock()
        for _ in range(steps):
            scaled, _ = engine(molecules)
            engine.backward(scaled.square().mean())
            engine.step()
        scaled.sum().item()
        return clock() - begin

    return train


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shards", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS reads it once; the same for both
    print(f"{'cuda' if torch.cuda.is_available() else 'cpu, one thread'}, batch {given.batch}")
    for backbone in BACKBONES:
        train = steps_of(backbone, given.shards, given.batch)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(given.rounds + 1):
            for wanted, found in seconds.items():
                set_deterministic(wanted)
                spent = train(given.steps)
                if turn:
                    found.append(spent / given.steps)
        free, fixed = (statistics.median(seconds[wanted]) for wanted in (False, True))
        print(f"{backbone:11s} {free:.4f} s a step, deterministic {fixed:.4f} s: {fixed / free - 1:+.1%}")


if __name__ == "__main__":
    main()
