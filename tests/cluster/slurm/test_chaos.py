"""A few random faults on one job, by the tool of `make chaos`; CHAOS_SEED=N draws others."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from chaos import GOOD, Trial, plan
from chaos_cluster import Site
from faults import draw
from kinds import Kind, call, run_differs, told

pytestmark = pytest.mark.slurm
DISK = ("full", "read-only")  # faults that need a disk of the cluster's own


@pytest.mark.slow  # `make soak` runs an hour of it; each fault by name is in test_faults.py
def test_random_faults_end_equal_or_with_a_cause(cluster, recipe, undisturbed, monkeypatch):
    seed = int(os.environ.get("CHAOS_SEED", "9"))
    site = Site(cluster.folder.parent)
    for name, value in site.environment().items():
        monkeypatch.setenv(name, value)
    profile = Path(__file__).parents[3] / "slurm" / "dev.yaml"
    kind = Kind(
        "train",
        lambda site, run: call("submit", recipe, "--profile", profile, "--run", run),
        lambda run: (run / "metrics.json").is_file(),
        lambda run: run_differs(run, undisturbed),
        told,
    )
    random = Random(seed)
    faults = [fault for fault in (draw(random, "train") for _ in range(9)) if fault["fault"] not in DISK]
    line = Trial(site, kind, seed, faults[:3]).run()
    print(f"seed {seed}: {line}")
    assert line["end"] in GOOD and any(fault["did"] for fault in line["faults"]), line


def test_a_trial_is_drawn_from_its_seed_and_number_alone():
    assert plan(7, 12) == plan(7, 12)
    assert plan(7, 12) != plan(7, 13) and plan(7, 12) != plan(8, 12)
