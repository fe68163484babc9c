"""`mmgnn sweep RECIPE`: a search by Ray Tune, on this machine or on the Slurm allocation around it.

    SWEEP/recipe.yaml   trials/000/ (run directory, trial.json) ...   leaderboard.md   plots/   best.yaml

The same command continues a sweep: the ledger (`ledger.py`) holds the trials that have ended, the others
continue from their own checkpoints. A signal stops the sweep in order: all trials save, the exit code is 3.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from mmgnn_dist.cluster.ray.allocation import ray_around
from mmgnn_dist.config import Recipe, load_stored_recipe
from mmgnn_dist.data.prepare.ray_run import ray_here
from mmgnn_dist.errors import EXIT_DONE, EXIT_STOPPED, UserError, need
from mmgnn_dist.files import lock_file
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.signals import stop_flag
from mmgnn_dist.sweep.ledger import TRIALS, Entry, read_trials
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.optim.schedule import total_steps
from mmgnn_dist.train.provenance import refuse_changed
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.start.plan import plan_start
from mmgnn_dist.train.stored.claims import differences
from mmgnn_dist.train.stored.recipe import stored_recipe
from mmgnn_dist.train.text_data import open_text_data

FREE = (
    "samples",
    "concurrent",
    "cpus",
    "gpus",
    "ranks",
    "scheduler",
    "searcher",
)  # may change when a sweep continues
ATTEMPTS = 2  # how often a trial whose ranks died starts again
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial answers before its first validation
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output always prints a banner
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def check_sweep(recipe: Recipe, folder: Path) -> Inputs:
    """Check a sweep before anything is started or written; returns the inputs of the recipe.

    Raises:
        UserError: if the recipe has no sweep, packages are missing, the input is wrong, or the folder belongs
            to another sweep or to other data.
    """
    if recipe.sweep is None:
        raise UserError("the recipe has no section sweep: see launch/sweep.yaml")
    for package in ("ray", "optuna"):
        if importlib.util.find_spec(package) is None:
            raise need(package, "sweep")
    inputs = open_inputs(recipe, run=RunDir(folder / TRIALS / recipe.name))  # beside all trials
    plan_start(inputs)
    names = ["val/score", *(f"val/mae/{name}" for name in inputs.metrics)]
    names += [f"val/{name}" for name in inputs.class_metrics]
    if recipe.sweep.metric not in names:
        raise UserError(
            f"sweep.metric={recipe.sweep.metric} is not measured: choose one of {', '.join(names)}"
        )
    path = RunDir(folder).recipe
    if path.is_file():
        saved = load_stored_recipe(path)
        if changed_keys := differences(_compared(recipe), _compared(saved)):
            raise UserError(
                f"{folder} holds another sweep ({', '.join(changed_keys)} differ): give another --dir"
            )
    trials = [run for run in map(RunDir, sorted((folder / TRIALS).glob("*"))) if run.recipe.is_file()]
    refuse_changed({run.path: stored_recipe(run) for run in trials})
    return inputs


def _validations(inputs: Inputs, quiet: bool) -> int:
    """Count the validations of a whole trial; also makes the sidecars of the text, once for all trials."""
    train = inputs.recipe.train
    ranks = init_distributed(train.threads)
    with Progress("sweep", quiet) as progress:
        per_epoch = inputs.training(open_text_data(inputs, ranks, progress).tokens, ranks).steps_per_epoch
    return -(-total_steps(train, per_epoch) // (per_epoch * train.validate_every))


def _compared(recipe: Recipe) -> dict[str, Any]:
    kept = {"sweep": recipe.model_dump(mode="json", include={"sweep"}, exclude={"sweep": set(FREE)})["sweep"]}
    return recipe.identity_fields() | kept


def sweep(recipe: Recipe, folder: Path, quiet: bool) -> int:
    """Run a sweep to its end, or continue it.

    Returns:
        Exit code: done, or stopped in order (the same call continues the sweep).

    Raises:
        UserError: as `check_sweep`, and if there are too few CPUs or GPUs, another process works on the
            sweep, or no trial succeeded.
    """
    from mmgnn_dist.sweep.leaderboard import write_leaderboard

    folder = folder.resolve()
    inputs = check_sweep(recipe, folder)
    assert recipe.sweep
    try:
        lock = lock_file(folder / "lock")
    except BlockingIOError:
        raise UserError(f"another process works on {folder}: wait for it, or end it") from None
    with lock:
        recipe.save(RunDir(folder).recipe)
        entries = read_trials(folder, recipe.sweep)
        if _left(recipe, entries):
            validations = _validations(inputs, quiet)
            with Progress("sweep", quiet) as progress:
                _search(recipe, folder, validations, progress)
            entries = read_trials(folder, recipe.sweep)
        write_leaderboard(recipe, folder, entries)
    if _left(recipe, entries):
        return EXIT_STOPPED
    if all(entry.state == "failed" for entry in entries):
        raise UserError(f"all {len(entries)} trials failed, the first one: {entries[0].reason}")
    return EXIT_DONE


def _left(recipe: Recipe, entries: list[Entry]) -> int:
    """Count the trials that have not ended, those not yet begun included."""
    assert recipe.sweep
    return max(recipe.sweep.samples, len(entries)) - sum(entry.state != "open" for entry in entries)


class Stop:
    """State that says whether the sweep stops; it is kept on the class, since Tune copies its arguments."""

    signals: list[int] = []  # noqa: RUF012  one sweep a process
    interrupted = False

    @classmethod
    def asked(cls) -> bool:
        """Return whether a signal came, or another process stopped a trial."""
        return bool(cls.signals) or cls.interrupted


def _search(recipe: Recipe, folder: Path, validations: int, progress: Progress) -> None:
    assert recipe.sweep
    os.environ.update(SETTINGS)  # read when ray is imported
    cores = len(os.sched_getaffinity(0))
    with ray_around(), ray_here(cores) as ray, stop_flag() as signals:
        _check_room(recipe, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        from ray import tune

        from mmgnn_dist.sweep.searcher import Search, scheduler
        from mmgnn_dist.sweep.trial import Trial

        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

        class Stopper(tune.Stopper):
            """Ends the sweep once a stop was asked for."""

            def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
                Stop.interrupted |= result.get("ended") == "interrupted"
                return False

            def stop_all(self) -> bool:
                return Stop.asked()

        def report(entries: list[Entry]) -> None:
            _tell(recipe, entries, progress)

        Stop.signals, Stop.interrupted = signals, False
        search = Search(recipe, folder, report, Stop.asked)
        settings = recipe.sweep
        needs = {"CPU": settings.ranks * settings.cpus, "GPU": settings.ranks * settings.gpus}
        storage = folder / "tune"
        shutil.rmtree(storage, ignore_errors=True)
        report(search.entries)
        tuner = tune.Tuner(
            tune.with_resources(Trial, tune.PlacementGroupFactory([needs])),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler(settings, validations, search.entries),
                num_samples=_left(recipe, search.entries),
                max_concurrent_trials=settings.concurrent or 0,
            ),
            run_config=tune.RunConfig(
                name="session",
                storage_path=str(storage),
                verbose=0,
                stop=Stopper(),
                failure_config=tune.FailureConfig(max_failures=ATTEMPTS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        tuner.fit()
    shutil.rmtree(storage, ignore_errors=True)


def _check_room(recipe: Recipe, nodes: list[dict[str, float]]) -> None:
    """Refuse trials that do not fit on any node.

    Raises:
        UserError: if no node has room for a trial; says what it needs and what a node has.
    """
    assert recipe.sweep
    settings = recipe.sweep
    needs = {"CPU": settings.ranks * settings.cpus, "GPU": settings.ranks * settings.gpus}
    if any(all(node.get(kind, 0) >= count for kind, count in needs.items()) for node in nodes):
        return
    most = {kind: max((node.get(kind, 0) for node in nodes), default=0) for kind in needs}
    short = [kind for kind in needs if needs[kind] > most[kind]] or list(needs)
    shortage = ", ".join(f"{needs[kind]:g} {kind}s and a node has {most[kind]:g}" for kind in short)
    raise UserError(
        f"a trial needs {shortage}: lower sweep.ranks, sweep.cpus or sweep.gpus (0 trains on the CPU), or "
        "ask for more"
    )


def _tell(recipe: Recipe, entries: list[Entry], progress: Progress) -> None:
    assert recipe.sweep
    ended = sum(entry.state != "open" for entry in entries)
    scored = [entry for entry in entries if entry.best is not None]
    note = f"{len(entries) - ended} open"
    if scored:
        best = min(scored, key=lambda entry: entry.loss)
        note += f"  best {recipe.sweep.metric} {best.best:.4g} (trial {best.number})"
    progress(ended, max(recipe.sweep.samples, len(entries)), note)
