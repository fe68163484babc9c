"""Molecules per second of two processes pinned to a core each, beside one process: graph and frozen text.

    python tests/benchmarks/scaling.py SHARDS [--recipe launch/qm9.yaml] [--rounds 3]

The recipe trains with its encoder frozen and no validation. Four ways take turns, so that all meet the same
machine; what counts is the time of the steps from FIRST to LAST in the journal, waiting included:

    one       one process, the global batch
    half      one process, half the batch: what the overhead of small batches costs
    apart     two processes with half the batch each that know nothing of each other: what the cores share
    together  two ranks with the global batch: on top, messages and the waiting for the slower rank

Each line is a rate over twice that of `one`; the bar is 0.8 for `together`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mmgnn_dist.config import load_recipe
from mmgnn_dist.train.launch import start_here
from mmgnn_dist.train.tracking.journal import read_journal

ROOT = Path(__file__).parents[2]
FIRST, LAST = 5, 45  # steps that are timed


def start(run: Path, cores: list[int]) -> list[subprocess.Popen[bytes]]:
    """A rank on each of some cores."""
    words = [sys.executable, "-m", "mmgnn_dist.train.run", str(run)]
    ranks = start_here(words, len(cores), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for rank, core in zip(ranks, cores, strict=True):
        os.sched_setaffinity(rank.pid, {core})
    return ranks


def seconds(runs: list[Path], processes: list[subprocess.Popen[bytes]]) -> float:
    """Time of the steps from FIRST to LAST once all have ended, the mean of the runs."""
    for process in processes:
        assert process.wait() == 0, "a process failed"
    spent = []
    for run in runs:
        at = {line["step"]: line["seconds"] for line in steps(run)}
        spent.append(at[LAST] - at[FIRST])
    return statistics.mean(spent)


def steps(run: Path) -> list[dict[str, Any]]:
    return [line for line in read_journal(run / "journal.jsonl") if line["kind"] == "train"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shards", type=Path)
    parser.add_argument("words", nargs="*", help="overrides")
    parser.add_argument("--recipe", type=Path, default=ROOT / "launch" / "qm9.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    settings = [
        f"data.shards={given.shards}",
        "text.mode=frozen",
        "twins=[]",
        f"train.max_steps={LAST}",
        "train.epochs=999",
        "train.threads=1",
        "train.validate_every=999",
        "track.wandb=disabled",
        *given.words,
    ]
    whole = load_recipe(given.recipe, settings)
    half = load_recipe(given.recipe, [*settings, f"train.batch={whole.train.batch // 2}"])
    cores = sorted(os.sched_getaffinity(0))[:2]
    rates: dict[str, list[float]] = {"one": [], "half": [], "apart": [], "together": []}
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as made:
        for turn in range(given.rounds + 1):  # the first round makes the vectors of the text
            for kind, found in rates.items() if turn else [("one", [])]:
                runs = [Path(made) / f"{kind}_{turn}_{n}" for n in range(2 if kind == "apart" else 1)]
                recipe = half if kind in ("half", "apart") else whole
                for run in runs:
                    recipe.save(run / "recipe.yaml")
                shares = [cores] if kind == "together" else [[core] for core in cores]
                processes = [
                    rank for run, share in zip(runs, shares, strict=False) for rank in start(run, share)
                ]
                spent = seconds(runs, processes)
                if turn:
                    found.append(len(runs) * recipe.train.batch * (LAST - FIRST) / spent)
                if kind == "together":
                    waits += [line["imbalance"] for line in steps(runs[0])]
    base = 2 * statistics.median(rates["one"])
    print(
        f"{whole.name}: {whole.model.backbone.name}, batch {whole.train.batch}, {LAST - FIRST} steps, "
        f"{given.rounds} rounds"
    )
    for kind, found in rates.items():
        rate, every = statistics.median(found), ", ".join(f"{one:.1f}" for one in found)
        print(f"{kind:9s} {rate:8.1f} molecules/s  {rate / base:.3f}  (all {every})")
    print(f"predicted imbalance of the two ranks {statistics.mean(waits):.4f}")


if __name__ == "__main__":
    main()
