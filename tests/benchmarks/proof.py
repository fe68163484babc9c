"""What the proof of a run costs: hashes of molecules, weights and journal lines, as a share of a step.

    python tests/benchmarks/proof.py SHARDS [--steps 40] [key=value ...]

Trains `launch/demo.yaml` (graph with MiniLM fully trained, and the graph alone) on one thread. The
clock is the processor time of that thread, so that other work on the machine counts little. Steps with
and without the proof take turns; the time within the proof is also measured itself, in the same steps.
Every fifth step hashes the weights here; in a run it is one in `WEIGHTS_EVERY`, and the first after a
checkpoint.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mmgnn_dist.config import load_recipe
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.loop import Trainer
from mmgnn_dist.train.run import run
from mmgnn_dist.train.tracking import journal
from mmgnn_dist.train.tracking.proof import WEIGHTS_EVERY, StepProof

DEMO = Path(__file__).parents[2] / "launch" / "demo.yaml"
HASHED = 5  # every fifth step hashes the weights
clock = time.thread_time


class Watch:
    """Measures steps and, within them, the proof; leaves the proof out of steps by lot.

    Attributes:
        on: whether this step has its proof.
        steps: seconds of steps with and without proof.
        each: seconds of the proof in steps that hash no weights.
        weights: seconds of a hash of all weights.
    """

    def __init__(self) -> None:
        self.on = True
        self.steps: dict[bool, list[float]] = {True: [], False: []}
        self.each: list[float] = []
        self.weights: list[float] = []
        self._spent = self._hash = 0.0
        draw = np.random.default_rng(0)
        begin, fields, chained, step = StepProof.begin, StepProof.fields, journal.chained, Trainer._step

        def timed_begin(proof, number, saved):
            if not self.on:
                return
            at = clock()
            begin(proof, number, saved=number % HASHED == 0)
            self._hash = clock() - at if number % HASHED == 0 else 0.0
            self._spent += clock() - at

        def timed_fields(proof, rows):
            if not self.on:
                return {}
            at = clock()
            try:
                return fields(proof, rows)
            finally:
                self._spent += clock() - at

        def timed_chained(before, line):
            if not self.on:
                return json.dumps(line), before
            at = clock()
            json.dumps(line)
            plain = clock() - at
            at = clock()
            try:
                return chained(before, line)
            finally:
                self._spent += clock() - at - plain

        def timed_step(trainer, *arguments):
            self.on = bool(draw.integers(2))
            self._spent = self._hash = 0.0
            at = clock()
            stop = step(trainer, *arguments)
            spent = clock() - at
            if trainer.state.step > 4:  # the first ones warm up
                self.steps[self.on].append(spent - self._hash)
                if self.on:
                    self.each.append(self._spent - self._hash)
                if self._hash:
                    self.weights.append(self._hash)
            return stop

        StepProof.begin, StepProof.fields, Trainer._step = timed_begin, timed_fields, timed_step
        journal.chained = timed_chained


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shards", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("words", nargs="*", help="key=value: overrides of the recipe")
    given = parser.parse_args()
    capability = torch.backends.cpu.get_cpu_capability()
    for modality, steps in (("graph", 5 * given.steps), ("both", given.steps)):
        with tempfile.TemporaryDirectory() as folder:
            words = [
                f"data.shards={given.shards}",
                f"model.modality={modality}",
                f"train.max_steps={steps}",
                "train.checkpoint_every=100000",
                "train.validate_every=1000",
                "train.threads=1",
                "track.wandb=disabled",
                "twins=[]",
                *given.words,
            ]
            load_recipe(DEMO, words).save(RunDir(Path(folder)).recipe)
            watch = Watch()
            originals = watch.steps
            run(Path(folder), quiet=True)
        step, without = (statistics.median(originals[on]) for on in (True, False))
        counts = f"{len(originals[True])} and {len(originals[False])}"
        errors = [statistics.stdev(times) / len(times) ** 0.5 for times in originals.values()]
        each, weights = statistics.median(watch.each), statistics.median(watch.weights)
        share = (each + weights / WEIGHTS_EVERY) / without
        print(
            f"{modality}, {capability}, one thread: step {1e3 * without:.1f} ms, with proof "
            f"{step / without - 1:+.2%} (medians of {counts} steps, "
            f"standard error {1.25 * np.hypot(*errors) / without:.2%}); "
            f"proof of a step {1e6 * each:.0f} us, hash of all weights {1e3 * weights:.2f} ms "
            f"({weights / without:.2%} of a step) in 1 of {WEIGHTS_EVERY}: together {share:.3%} of a step",
            flush=True,
        )


if __name__ == "__main__":
    main()
