"""Several runs side by side: a table for the terminal and a page with their learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import write_text
from mmgnn_dist.html_style import html_page
from mmgnn_dist.show import charts, elements
from mmgnn_dist.show.elements import paragraph, shown_number
from mmgnn_dist.show.read_run import ShownRun
from mmgnn_dist.show.run_page import learning_curves


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side.

    Attributes:
        errors: test MAE of each run by target with its unit; None where a run has none.
        differ: value of each recipe key in which the runs differ, by key and run.
        notes: why the errors are not of the same molecules, if they are not.
    """

    errors: dict[str, list[float | None]]
    differ: dict[str, list[str]]
    notes: list[str]


def compare_runs(runs: Sequence[ShownRun]) -> RunComparison:
    """Compare runs, finished or not.

    Raises:
        UserError: there is only one run.
    """
    if len(runs) < 2:
        raise UserError("give at least two run directories to compare, or 'mmgnn show RUN' for one")
    errors: dict[str, list[float | None]] = {}
    for place, run in enumerate(runs):
        for target, score in run.scores().items():
            unit = run.unit(target)
            values = errors.setdefault(f"{target} ({unit})" if unit else target, [None] * len(runs))
            values[place] = score.mae if np.isfinite(score.mae) else None
    flat = [_flat(run.recipe) for run in runs]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = {key: [values.get(key, "–") for values in flat] for key in keys}
    differ = {key: values for key, values in rows.items() if len(set(values)) > 1 and key != "name"}
    return RunComparison(errors, differ, _notes(runs))


def _flat(recipe: Recipe) -> dict[str, str]:
    """Return the values of a recipe by dotted key."""
    found: dict[str, str] = {}

    def walk(values: dict[str, object], above: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                walk(value, f"{above}{key}.")
            else:
                found[above + key] = str(value)

    walk(recipe.model_dump(mode="json"), "")
    return found


def _notes(runs: Sequence[ShownRun]) -> list[str]:
    finished = [run.metrics for run in runs if run.metrics is not None]
    notes = [f"{run.name} is not finished" for run in runs if run.metrics is None]
    if len({(metrics["shards_sha256"], metrics["split_sha256"]) for metrics in finished}) > 1:
        notes.append(
            "the runs were tested on other molecules (shard set or split): their errors do not compare"
        )
    return notes


def write_comparison_page(runs: Sequence[ShownRun], found: RunComparison, path: Path) -> Path:
    """Write the page of a comparison; returns its path.

    Raises:
        UserError: the page cannot be written.
    """
    names = [run.name for run in runs]
    errors = [
        [target, *(_cell(values, value) for value in values)] for target, values in found.errors.items()
    ]
    rows = [[key, *values] for key, values in found.differ.items()]
    parts = [
        "<h1>Runs side by side</h1>",
        *(paragraph(note) for note in found.notes),
        "<h2>Mean absolute errors of the test</h2>",
        elements.table("Errors", ["target", *names], errors) or paragraph("No run is finished yet."),
        paragraph("* the lowest of a row, one training each.", "soft"),
        "<h2>Learning curves</h2>",
        learning_curves(list(runs)),
        "<h2>Where the recipes differ</h2>",
        elements.table("Recipes", ["key", *names], rows) or paragraph("In nothing."),
    ]
    title = escape(f"Runs {', '.join(names)}")
    try:
        write_text(path, html_page(title, elements.STYLE + charts.STYLE, "\n".join(parts)))
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): give another place by --html"
        ) from None
    return path


def _cell(values: Sequence[float | None], value: float | None) -> str:
    if value is None:
        return "–"
    known = [one for one in values if one is not None]
    return shown_number(value) + (" *" if len(known) > 1 and value == min(known) else "")
