"""A small sweep, and how far one has come: what the tests of sweeps here and in an allocation share."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import journal

EVERY = 20  # steps between checkpoints
RECIPE = """
name: search
targets: [homo, gap]
data: {shards: %s}
model:
  modality: graph
  backbone: {name: schnet, hidden: 16, filters: 16, interactions: 2, gaussians: 10, cutoff: 5.0}
train: {epochs: 30, batch: 64, precision: fp32, validate_every: 10, checkpoint_every: 20, optim: {ema: 0.9}}
track: {wandb: disabled}
sweep:
  samples: 4
  scheduler: none
  concurrent: 2
  space:
    train.optim.lr: {kind: float, low: 1.0e-4, high: 1.0e-2, log: true}
    model.backbone.hidden: {kind: choice, values: [8, 16]}
    model.backbone.interactions: {kind: int, low: 1, high: 2}
"""


def states(folder: Path) -> dict[str, str]:
    """State of each trial by its folder's name."""
    found = folder.glob("trials/*/trial.json")
    return {path.parent.name: json.loads(path.read_text())["state"] for path in sorted(found)}


def steps(run: Path) -> list[int]:
    return [line["step"] for line in journal(run)]


def under_way(folder: Path) -> list[Path]:
    """Runs of trials that have a checkpoint and are not finished."""
    runs = [path for path in folder.glob("trials/*") if not (path / "metrics.json").exists()]
    return [path for path in runs if any(path.glob("checkpoints/step_*"))]


def half_way(folder: Path, done: int) -> bool:
    """So many trials have ended, and another has something to continue from."""
    return list(states(folder).values()).count("done") >= done and bool(under_way(folder))


def progress(folder: Path) -> dict[str, tuple[bool, list[int]]]:
    """Whether each trial's run is finished, and its steps."""
    runs = sorted(path for path in folder.glob("trials/*") if path.is_dir())
    return {run.name: ((run / "metrics.json").exists(), steps(run)) for run in runs}


def went_on(folder: Path, before: dict[str, tuple[bool, list[int]]]) -> None:
    """What was finished was not touched again, and at least one other continued from its checkpoint."""
    resumed = []
    for name, (finished, had) in before.items():
        run = folder / "trials" / name
        assert steps(run) == list(range(1, steps(run)[-1] + 1))
        starts = [line["step"] for line in journal(run, "resume")]
        if finished:
            assert had == steps(run) and not starts
        resumed += starts
    assert resumed and min(resumed) >= EVERY
