"""What the verbs of the command line do, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmgnn_dist.api.model import TrainedModel, load_model
from mmgnn_dist.config import Recipe, load_recipe
from mmgnn_dist.errors import EXIT_DONE, TryAgain, UserError
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.application.evaluation import Evaluated, evaluate_run

if TYPE_CHECKING:
    from mmgnn_dist.data.prepare.pipeline import PrepareResult
    from mmgnn_dist.study.complete import StudyOutcome


def prepare_data(
    sources: str | Path | Sequence[str | Path],
    to: str | Path,
    text: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    quiet: bool = True,
) -> PrepareResult:
    """Make a shard set, as `mmgnn data prepare` does.

    Args:
        sources: one or many files of molecules, archives, folders, or the word `sample`.
        to: folder to make.
        text: tables of text fields to join, the most important first.
        overrides: `key=value`, such as `data.units.gap=eV`.
        quiet: show no progress.

    Returns:
        Path, counts (in, kept, set aside, with reasons) and notes.

    Raises:
        UserError: the input is wrong.
    """
    from mmgnn_dist.cluster.ray.allocation import ray_around
    from mmgnn_dist.data.prepare.pipeline import prepare

    given = [sources] if isinstance(sources, str | Path) else sources
    data, tables = load_recipe(None, list(overrides)).data, [Path(table) for table in text]
    with Progress("prepare", quiet) as progress:
        words = [str(source) for source in given]
        return prepare(words, Path(to), tables, data, progress, around=ray_around)


def train_model(
    recipe: Recipe | str | Path,
    run: str | Path | None = None,
    overrides: Sequence[str] = (),
    nproc: int = 1,
    quiet: bool = False,
) -> TrainedModel:
    """Train a recipe and its twins, or continue them, as `mmgnn train` does.

    Args:
        recipe: a recipe, or its YAML file.
        run: run directory; None: `runs/NAME`.
        overrides: `key=value`, such as `train.epochs=5`; for a file.
        nproc: processes on this machine.
        quiet: show no progress.

    Returns:
        The trained model; its `path` is the run directory, with `metrics.json`, `report.md` and the twins.

    Raises:
        UserError: the input is wrong.
        TryAgain: the run was stopped; the same call continues.
    """
    from mmgnn_dist.train.session import train_with_twins

    made = _recipe(recipe, overrides)
    folder = Path("runs") / made.name if run is None else Path(run)
    code, _ = train_with_twins(made, folder, nproc, quiet)
    if code != EXIT_DONE:
        raise TryAgain(f"{folder} stopped before its end (exit code {code}): the same call continues")
    return load_model(folder)


def evaluate_model(
    run: str | Path, data: str | Path | None = None, out: str | Path | None = None, quiet: bool = True
) -> Evaluated:
    """Apply a trained model to its test part or to another shard set, as `mmgnn evaluate` does.

    Args:
        run: run directory.
        data: another shard set; None for the test part of the run.
        out: with `data`: folder of predictions and metrics; None: `evaluations/NAME` of the run.
        quiet: show no progress.

    Raises:
        UserError: as of `mmgnn evaluate`.
    """
    return evaluate_run(
        Path(run), None if data is None else Path(data), quiet, None if out is None else Path(out)
    )


def study_models(
    recipe: Recipe | str | Path,
    folder: str | Path | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> StudyOutcome:
    """Train the models of a recipe with a section `study`, and write the report, as `mmgnn study` does.

    Args:
        recipe: a recipe, or its YAML file.
        folder: study directory; None: `runs/NAME`.
        overrides: `key=value`; for a file.
        quiet: show no progress.

    Raises:
        UserError: the input is wrong.
    """
    from mmgnn_dist.study.complete import complete_study

    made = _recipe(recipe, overrides)
    return complete_study(made, Path("runs") / made.name if folder is None else Path(folder), quiet)


def _recipe(recipe: Recipe | str | Path, overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        if overrides:
            raise UserError("overrides change a file: give its path, or a recipe that has these values")
        return recipe
    return load_recipe(Path(recipe), list(overrides))
