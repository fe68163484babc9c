"""Weights & Biases as a sink of the journal: offline unless told otherwise, one run id for good.

The id is drawn once and kept in the run directory, so that every restart writes to the same run. The journal
stays the truth: W&B's step is the journal's step, so a row holds all that is known of it, and W&B itself
refuses what a resumed run says of steps that it has. `sync.py` writes the same rows from the journal.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import need
from mmgnn_dist.files import write_text
from mmgnn_dist.process import temporary_folders
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine, RunMetrics
from mmgnn_dist.train.evaluate import GATE_BINS
from mmgnn_dist.train.tracking.journal import STEPPED

BARE = ("step", "epoch")  # keys of the same name in every kind of line


def check_tracking(recipe: Recipe) -> None:
    """Refuse a recipe that tracks without the package.

    Raises:
        UserError: names the extra, and the recipe's way to do without.
    """
    if recipe.track.wandb != "disabled" and importlib.util.find_spec("wandb") is None:
        raise need("wandb", "track")


def run_id(run: Path) -> str:
    """The W&B id of a run directory, drawn at the first call."""
    path = RunDir(run).wandb_id
    if not path.is_file():
        write_text(path, secrets.token_hex(4))
    return path.read_text().strip()


class Wandb:
    """Sends journal lines to W&B.

    Args:
        recipe: configuration, project, group and mode.
        run: the run directory.
        replay: folder for a segment that is written later, from the journal: always offline, and without what
            W&B measures of the machine, which is another one.
    """

    def __init__(self, recipe: Recipe, run: Path, replay: Path | None = None) -> None:
        # artifacts wait here until they are uploaded, not in the home of whoever runs
        os.environ["WANDB_DATA_DIR"] = str(RunDir(run).wandb_data.absolute())
        os.environ.setdefault("WANDB_SILENT", "true")
        if "wandb" not in sys.modules:
            with temporary_folders():  # it makes two as it is imported, for as long as the process lives
                import wandb
        import wandb

        logging.getLogger("wandb").setLevel(logging.ERROR)
        track, again = recipe.track, replay is not None
        self._recipe, self._folder = recipe, run
        self._run: Any = wandb.init(
            project=track.project,
            group=track.group,
            job_type=recipe.model.modality,
            tags=track.tags,
            name=run.name,
            id=run_id(run),
            resume="allow",
            dir=str(replay or run),
            mode="offline" if again else track.wandb,
            config=recipe.model_dump(mode="json"),
            settings=wandb.Settings(console="off", x_disable_stats=again, x_disable_meta=again),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def __call__(self, line: JournalLine) -> None:
        """Send one journal line; those that belong to no step (starts, restarts) are left to the journal."""
        if line["kind"] not in STEPPED:
            return
        import numpy as np
        import wandb

        values: dict[str, Any] = {f"lr/{name}": value for name, value in line.get("lr", {}).items()}
        for key, value in line.items():
            if isinstance(value, int | float):
                values[f"train/{key}" if line["kind"] == "train" and key not in BARE else key] = value
        if gate := line.get("gate"):
            values["gate/mean"] = gate["mean"]
            edges = np.linspace(0, 1, GATE_BINS + 1)
            values["gate/histogram"] = wandb.Histogram(np_histogram=(np.array(gate["counts"]), edges))
        self._run.log(values, step=line["step"])

    def finish(self, results: RunMetrics | None) -> None:
        """End the segment.

        Args:
            results: what `metrics.json` of a finished run holds; table, pictures and the artifact that is
                wanted go with it. None: the run is not finished.
        """
        if results:
            with temporary_folders():  # one for each table
                self._results(results)
        self._run.finish()

    def _results(self, results: RunMetrics) -> None:
        import wandb

        self._run.summary.update(results["metrics"])
        errors = {"test": results["metrics"], **_by_kind(results["baselines"])}
        columns = ["target", "unit", "test", "mean", "composition"]
        rows = []
        for (target, unit), metric in zip(results["units"].items(), results["metrics"], strict=True):
            name = metric.removeprefix("test/")
            rows.append([target, unit, *(errors[kind].get(f"{kind}/{name}") for kind in columns[2:])])
        values: dict[str, Any] = {"test/table": wandb.Table(columns=columns, data=rows)}
        pictures = sorted(RunDir(self._folder).plots.glob("*.png"))
        values |= {f"plots/{path.stem}": wandb.Image(str(path)) for path in pictures}
        self._run.log(values, step=results["steps"])
        self._artifact(results["steps"])

    def _artifact(self, steps: int) -> None:
        import wandb

        kind = self._recipe.track.artifact
        if kind == "none":
            return
        run = RunDir(self._folder)
        place = run.export if kind == "export" else run.checkpoints
        artifact = wandb.Artifact(f"{kind}-{run_id(self._folder)}", type=kind, metadata={"step": steps})
        artifact.add_dir(str(place))
        self._run.log_artifact(artifact)


def _by_kind(errors: dict[str, float | None]) -> dict[str, dict[str, float | None]]:
    """`mean/mae/gap_eV` by its first word."""
    found: dict[str, dict[str, float | None]] = {}
    for name, value in errors.items():
        found.setdefault(name.split("/")[0], {})[name] = value
    return found
