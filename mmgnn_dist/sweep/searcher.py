"""The searcher that Ray Tune asks for the next trial: Optuna with all trials of the ledger.

A sweep that continues first hands out the open trials, then new ones. Optuna's study is kept in memory and
rebuilt from the ledger. The rungs of asha are filled from it too, so that a trial is compared with all
earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from pydantic import ValidationError
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher

from mmgnn_dist.config import Dimension, Recipe, SweepConfig
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.sweep.ledger import (
    Entry,
    read_trials,
    trial_dir,
    trial_recipe,
    validation_scores,
    write_trial,
)
from mmgnn_dist.sweep.trial import reason

STARTUP = 4  # the first quarter of the trials, at least 3, is drawn at random; then Optuna models them


class Search(Searcher):
    """Searcher that hands out trials and writes the ledger.

    Args:
        recipe: recipe with a section sweep.
        folder: folder of the sweep.
        report: called with all entries after every change.
        stopping: returns whether the whole sweep is being stopped; then no trial counts as ended.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        report: Callable[[list[Entry]], None],
        stopping: Callable[[], bool],
    ) -> None:
        assert recipe.sweep
        self.sweep = recipe.sweep
        super().__init__(metric=self.sweep.metric, mode=self.sweep.mode)
        self._recipe, self._sweep_folder, self._report, self._stopping = recipe, folder, report, stopping
        self.entries = read_trials(folder, self.sweep)
        self._open = [entry for entry in self.entries if entry.state == "open"]
        self._given: dict[str, tuple[Entry, Any]] = {}  # by Tune's id: our entry, Optuna's trial
        self._ways = {key: _distribution(way) for key, way in self.sweep.space.items()}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = self.sweep.seed + len(self.entries)  # a sweep that continues does not draw the same again
        samplers = optuna.samplers
        sampler = (
            samplers.RandomSampler(seed=seed)
            if self.sweep.searcher == "random"
            else samplers.TPESampler(seed=seed, n_startup_trials=max(3, self.sweep.samples // STARTUP))
        )
        self._study = optuna.create_study(direction=f"{self.sweep.mode}imize", sampler=sampler)
        for entry in self.entries:
            if entry.state != "open":
                self._study.add_trial(self._known(entry))

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        """Accept without change: the recipe holds all properties."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next trial; if its values do not go together, it fails here and another is drawn."""
        while self._open or len(self.entries) < self.sweep.samples:
            if self._open:
                entry = self._open.pop(0)
                self._study.enqueue_trial(self._parameters(entry.values))
                optuna_trial = self._study.ask(self._ways)
            else:
                optuna_trial = self._study.ask(self._ways)
                entry = Entry(len(self.entries), self._values(optuna_trial.params), mode=self.sweep.mode)
                self.entries.append(entry)
            run = trial_dir(self._sweep_folder, entry.number)
            try:
                trial_recipe(self._recipe, entry, f"{self._recipe.name}-{entry.number:03d}").save(
                    RunDir(run).recipe
                )
            except ValidationError as error:
                message = error.errors()[0]["msg"].removeprefix("Value error, ")
                self._finish(entry, optuna_trial, "failed", message)
                continue
            write_trial(self._sweep_folder, entry)
            self._given[trial_id] = (entry, optuna_trial)
            sweep = self.sweep
            return {
                "run": str(run),
                "metric": sweep.metric,
                "ranks": sweep.ranks,
                "cpus": sweep.cpus,
                "gpus": sweep.gpus,
            }
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the score of a validation."""
        if self.sweep.metric in result and "ended" not in result:
            entry, optuna_trial = self._given[trial_id]
            if result["validations"] > len(entry.scores):
                entry.scores.append(result[self.sweep.metric])
            optuna_trial.report(result[self.sweep.metric], result["validations"])
            self._report(self.entries)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the end of a trial; it stays open if it was interrupted or the sweep is being stopped."""
        if trial_id not in self._given:
            return
        entry, optuna_trial = self._given.pop(trial_id)
        run = trial_dir(self._sweep_folder, entry.number)
        entry.scores = validation_scores(run, self.sweep.metric)
        ended = (result or {}).get("ended", "stopped")
        if ended == "failed" or (error and not self._stopping()):
            self._finish(entry, optuna_trial, "failed", reason(run))
        elif ended == "done" and entry.best is None:
            why = f"no validation has a value of {self.sweep.metric}: too few labels in the validation part"
            self._finish(entry, optuna_trial, "failed", why)
        elif ended == "done":
            self._finish(entry, optuna_trial, "done", "")
        elif ended == "stopped" and not self._stopping():
            self._finish(entry, optuna_trial, "stopped", "")

    def _finish(self, entry: Entry, optuna_trial: Any, state: str, why: str) -> None:
        entry.state, entry.reason = state, why
        write_trial(self._sweep_folder, entry)
        states = optuna.trial.TrialState
        if state == "done":
            self._study.tell(optuna_trial, entry.best)
        else:
            self._study.tell(optuna_trial, state=states.PRUNED if state == "stopped" else states.FAIL)
        self._report(self.entries)

    def _known(self, entry: Entry) -> Any:
        states = optuna.trial.TrialState
        kinds = {"done": states.COMPLETE, "stopped": states.PRUNED, "failed": states.FAIL}
        return optuna.trial.create_trial(
            params=self._parameters(entry.values),
            distributions=self._ways,
            state=kinds[entry.state],
            value=entry.best if entry.state == "done" else None,
            intermediate_values=dict(enumerate(entry.scores, 1)),
        )

    def _values(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Convert Optuna's parameters to values of the recipe: Optuna knows a choice by its index."""
        return {k: self._choices(k)[v] if self._choices(k) else v for k, v in parameters.items()}

    def _parameters(self, values: dict[str, Any]) -> dict[str, Any]:
        return {k: self._choices(k).index(v) if self._choices(k) else v for k, v in values.items()}

    def _choices(self, key: str) -> list[Any]:
        return self.sweep.space[key].values or []

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is written already."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is read at the start."""


def _distribution(way: Dimension) -> Any:
    if way.kind == "choice":
        return optuna.distributions.CategoricalDistribution(list(range(len(way.values or []))))
    kind = optuna.distributions
    low, high = way.corners
    if way.kind == "int":
        return kind.IntDistribution(low, high, log=way.log)
    return kind.FloatDistribution(low, high, log=way.log)


def scheduler(sweep: SweepConfig, most: int, known: list[Entry]) -> Any:
    """Return Tune's asha scheduler over validations, with its rungs filled from the trials that have ended.

    Args:
        sweep: settings of the sweep.
        most: number of validations of a whole trial; at the last one asha stops no trial.
        known: trials of earlier sessions.
    """
    if sweep.scheduler == "none" or most - 1 < sweep.grace:
        return FIFOScheduler()
    asha = ASHAScheduler(
        time_attr="validations",
        metric=sweep.metric,
        mode=sweep.mode,
        max_t=most - 1,
        grace_period=sweep.grace,
        reduction_factor=sweep.reduction,
        stop_last_trials=False,
    )
    for entry in known:
        if entry.state in ("done", "stopped"):
            trial = SimpleNamespace(trial_id=f"known-{entry.number}")
            for validation, score in enumerate(entry.scores, 1):
                asha._brackets[0].on_result(trial, validation, score if sweep.mode == "max" else -score)
    return asha
