"""What a step of one process costs on a CPU: ZeRO stage 0 and 1, freed memory kept and given back.

    python tests/benchmarks/one_process.py SHARDS [--batch 2] [--steps 20] [--rounds 5]

SchNet and MiniLM fully trained, on all cores. The C library can be told once in a process what to do with
freed memory, so every measurement is a process of its own; the three kinds take turns. Pages are those that
the system has to provide in a step, of 4 kB and filled with zeros.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from determinism import steps_of

from mmgnn_dist.train import engine

KINDS = {"stage 0, kept": (0, True), "stage 0, given back": (0, False), "stage 1, given back": (1, False)}


def measure(kind: str, shards: Path, batch: int, steps: int) -> dict[str, float]:
    """Seconds and pages of a step, and the peak of the process in bytes."""
    stage, kept = KINDS[kind]
    if not kept:
        engine._keep_what_is_freed = lambda: None
    train = steps_of("schnet", shards, batch, f"train.zero_stage={stage}")
    train(5)
    pages, begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    train(steps)
    seconds, used = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds / steps,
        "pages": (used.ru_minflt - pages) / steps,
        "peak": used.ru_maxrss * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shards", type=Path)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", choices=KINDS, help="measure this one alone, print JSON")
    given = parser.parse_args()
    if given.kind:
        print(json.dumps(measure(given.kind, given.shards, given.batch, given.steps)))
        return
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(given.rounds):
        for kind, results in found.items():
            command = [sys.executable, *sys.argv, "--kind", kind]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        kind: {key: statistics.median(one[key] for one in results) for key in results[0]}
        for kind, results in found.items()
    }
    base = medians["stage 1, given back"]["seconds"]
    print(f"batch {given.batch}, {given.rounds} rounds of {given.steps} steps, medians")
    for kind, one in medians.items():
        print(
            f"{kind:20s} {one['seconds']:.3f} s a step ({one['seconds'] / base:.2f} of the last), "
            f"{one['pages']:8.0f} pages, peak {one['peak'] / 1e9:.2f} GB"
        )


if __name__ == "__main__":
    main()
