"""The trials of a sweep as files: `SWEEP/trials/N/trial.json`, in the run directory of each trial.

A sweep continues from these files alone: nothing that Ray or Optuna keep in pickles is read again.
A trial is `open` until its run is `done`, asha `stopped` it, or it `failed` by its own fault.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgnn_dist.config import Recipe
from mmgnn_dist.config.sweep import Mode, SweepConfig
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import TrialRecord, journal_metric
from mmgnn_dist.train.tracking.journal import read_journal

TRIALS = "trials"


@dataclass
class Entry:
    """One trial.

    Attributes:
        number: number of the trial, from 0 on.
        values: its values, by dotted key of the recipe.
        state: open, done, stopped or failed.
        reason: why it failed, empty if it did not.
        scores: the metric at each validation, from its journal.
        mode: whether the least or the largest score is the best, min or max.
    """

    number: int
    values: dict[str, Any]
    state: str = "open"
    reason: str = ""
    scores: list[float] = field(default_factory=list)
    mode: Mode = "min"

    @property
    def best(self) -> float | None:
        """The best score of all validations, None before the first."""
        return (min if self.mode == "min" else max)(self.scores, default=None)

    @property
    def loss(self) -> float:
        """What is the less the better the trial is; infinite before the first validation."""
        if self.best is None:
            return math.inf
        return self.best if self.mode == "min" else -self.best


def trial_dir(sweep: Path, number: int) -> Path:
    """Return the run directory of a trial."""
    return sweep / TRIALS / f"{number:03d}"


def validation_scores(run: Path, metric: str) -> list[float]:
    """Return the metric at each validation of a run so far."""
    lines = (line for line in read_journal(RunDir(run).journal) if line["kind"] == "validation")
    scores = (journal_metric(line, metric) for line in lines)
    return [score for score in scores if score is not None]


def read_trials(sweep: Path, config: SweepConfig) -> list[Entry]:
    """Read all trials of a sweep, in the order of their numbers."""
    entries = []
    for run in map(RunDir, sorted((sweep / TRIALS).glob("*"))):
        if run.trial.is_file():
            record: TrialRecord = read_json(run.trial)
            scores = validation_scores(run.path, config.metric)
            entries.append(Entry(**record, scores=scores, mode=config.mode))
    return entries


def write_trial(sweep: Path, entry: Entry) -> None:
    """Write the record of a trial, without its scores, which are in its journal."""
    record: TrialRecord = {
        "number": entry.number,
        "values": entry.values,
        "state": entry.state,
        "reason": entry.reason,
    }
    write_json(RunDir(trial_dir(sweep, entry.number)).trial, record)


def trial_recipe(recipe: Recipe, entry: Entry, name: str) -> Recipe:
    """Return the recipe of a trial: the sweep's with the trial's values, grouped in W&B.

    Raises:
        ValidationError: if its values do not go together.
    """
    assert recipe.sweep
    changed = recipe.changed(entry.values).grouped(recipe.name)
    threads = changed.train.threads or recipe.sweep.cpus
    return changed.model_copy(
        update={
            "name": name,
            "twins": [],
            "train": changed.train.model_copy(update={"threads": threads}),
        }
    )
