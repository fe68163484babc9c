"""One and two processes end closer to each other than three seeds lie apart.

Without dropout: rounding alone parts the runs. With it each rank draws its own, as another seed would.
"""

from __future__ import annotations

import pytest
from command_line import journal, mmgnn, write_recipe

SETTINGS = [
    "train.max_steps=120",
    "train.batch=16",
    "train.checkpoint_every=1000",
    "train.threads=0",
    "train.dropout=false",
]


@pytest.mark.slow
def test_two_processes_end_within_the_spread_of_seeds(sample_shards, tmp_path):
    recipe = write_recipe(tmp_path, sample_shards.path)

    def final(name, *words):
        mmgnn("train", recipe, "--run", tmp_path / name, *SETTINGS, *words, limit=1200)
        last = journal(tmp_path / name, "validation")[-1]
        return {key: value for key, value in last.items() if key.startswith("val/mae/")}

    seeds = [final(f"seed{seed}", f"train.seed={seed}") for seed in range(3)]
    two = final("two", "--nproc", 2)
    for name in two:
        values = [run[name] for run in seeds]
        spread = max(values) - min(values)
        print(f"{name}: seeds {values}, two processes {two[name]}")
        assert abs(two[name] - values[0]) <= spread, name
