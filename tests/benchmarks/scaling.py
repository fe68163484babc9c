"""Molecules per second of two processes pinned to a core each, beside one process: graph and frozen text.

    python tests/benchmarks/scaling.py SHARDS [--recipe launch/qm9.yaml] [--rounds 3]

The recipe trains with its encoder frozen and no validation. Four ways take turns, so that all meet the same
machine; the wall clock runs from step FIRST to step LAST of the journal:

    one       one process, the global batch
    half      one process, half the batch: what the overhead of small batches costs
    apart     two processes with half the batch each that know nothing of each other: what the cores share
    together  two ranks with the global batch: on top, messages and the waiting for the slower rank

Each line is a rate over twice that of `one`. The bar is 0.8 for `together`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmgnn_dist.config import load_recipe
from mmgnn_dist.train.journal import read_journal
from mmgnn_dist.train.launch import free_port

ROOT = Path(__file__).parents[2]
FIRST, LAST, LOOK = 5, 45, 0.05  # steps that are timed; seconds between two looks at a journal


def start(run: Path, rank: int, world: int, core: int, port: int) -> subprocess.Popen[bytes]:
    place = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    words = ["taskset", "-c", str(core), sys.executable, "-m", "mmgnn_dist.train.run", str(run)]
    environment = os.environ | {name: str(value) for name, value in place.items()}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(runs: list[Path], processes: list[subprocess.Popen[bytes]]) -> float:
    """Seconds from the last run's step FIRST to the first run's step LAST, for LAST - FIRST steps."""
    times: dict[tuple[Path, int], float] = {}
    while any((run, LAST) not in times for run in runs):
        for run in runs:
            path = run / "journal.jsonl"
            done = path.read_bytes().count(b'"train"') if path.is_file() else 0
            for step in (FIRST, LAST):
                if done >= step:
                    times.setdefault((run, step), time.perf_counter())
        assert not any(process.poll() for process in processes), "a process failed"
        time.sleep(LOOK)
    for process in processes:
        assert process.wait() == 0
    return statistics.mean(times[run, LAST] - times[run, FIRST] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shards", type=Path)
    parser.add_argument("words", nargs="*", help="overrides")
    parser.add_argument("--recipe", type=Path, default=ROOT / "launch" / "qm9.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    settings = [
        f"data.shards={given.shards}", "text.mode=frozen", "twins=[]", f"train.max_steps={LAST}",
        "train.epochs=999", "train.threads=1", "train.validate_every=999", "track.wandb=disabled",
        *given.words,
    ]  # fmt: skip
    whole = load_recipe(given.recipe, settings)
    half = load_recipe(given.recipe, [*settings, f"train.batch={whole.train.batch // 2}"])
    cores = sorted(os.sched_getaffinity(0))[:2]
    rates: dict[str, list[float]] = {"one": [], "half": [], "apart": [], "together": []}
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as made:
        for turn in range(given.rounds + 1):  # the first round makes the vectors of the text
            for kind, found in rates.items():
                runs = [Path(made) / f"{kind}_{turn}_{n}" for n in range(2 if kind == "apart" else 1)]
                recipe = half if kind in ("half", "apart") else whole
                for run in runs:
                    recipe.save(run / "recipe.yaml")
                world, port = (2 if kind == "together" else 1), free_port()
                places = [(run, rank) for run in runs for rank in range(world)]
                processes = [
                    start(run, rank, world, core, port)
                    for (run, rank), core in zip(places, cores, strict=False)
                ]
                seconds = timed(runs, processes)
                if turn:
                    found.append(len(runs) * recipe.train.batch * (LAST - FIRST) / seconds)
                if kind == "together":
                    waits += [
                        line["imbalance"]
                        for line in read_journal(runs[0] / "journal.jsonl")
                        if line["kind"] == "train"
                    ]
    base = 2 * statistics.median(rates["one"])
    print(
        f"{whole.name}: {whole.model.backbone.name}, batch {whole.train.batch}, {LAST - FIRST} steps, "
        f"{given.rounds} rounds"
    )
    for kind, found in rates.items():
        middle = statistics.median(found)
        every = ", ".join(f"{rate:.1f}" for rate in found)
        print(f"{kind:9s} {middle:8.1f} molecules/s  {middle / base:.3f}  (all {every})")
    print(f"predicted imbalance of the two ranks {statistics.mean(waits):.4f}")


if __name__ == "__main__":
    main()
