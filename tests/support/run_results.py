"""What the tests of ZeRO stages compare of two runs."""

from __future__ import annotations

import json
import shutil

import numpy as np
from command_line import journal, metrics


def losses(run):
    return np.array([line["loss"] for line in journal(run)])


def copies(run):
    """Checksum of all parameters on each rank."""
    return [json.loads(path.read_text()) for path in sorted(run.glob("logs/copy_rank_*.json"))]


def deviation(run, other, steps=None):
    return np.abs(losses(run)[:steps] / losses(other)[:steps] - 1).max()


def mae(run):
    return metrics(run)["metrics"]["test/mae/gap_eV"]


def with_weights_of(run, other):
    """Let a run test the export of another one instead of its own."""
    shutil.copytree(other / "export", run / "test_this")
    return run
