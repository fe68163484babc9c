"""Weights & Biases as a sink of the journal: offline by default, with one fixed run id.

The id is drawn once and kept in the run directory, so every restart writes to the same W&B run. The journal
remains the authoritative record. W&B's step is the journal's step, so a row has all values of a step, and W&B
ignores values of a resumed run for steps that it has. `wandb_sync.py` writes the same rows from the journal.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import need
from mmgnn_dist.files import write_text
from mmgnn_dist.process import temporary_folders
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine, RunMetrics
from mmgnn_dist.train.evaluate import GATE_BINS
from mmgnn_dist.train.report.class_metrics import target_of_metric
from mmgnn_dist.train.tracking.guarded import GuardedSink
from mmgnn_dist.train.tracking.journal import STEPPED

SERVICE = "wandb-core"  # name of the process that W&B starts
BARE = ("step", "epoch")  # keys with the same name for every kind of line


def check_tracking(recipe: Recipe) -> None:
    """Refuse a recipe that uses W&B if the package is not installed.

    Raises:
        UserError: the package is missing; the message names the extra and how to train without it.
    """
    if recipe.track.wandb != "disabled" and importlib.util.find_spec("wandb") is None:
        raise need("wandb", "track")


def run_id(run: Path) -> str:
    """Return the W&B id of a run directory; the first call draws it."""
    path = RunDir(run).wandb_id
    if not path.is_file():
        write_text(path, secrets.token_hex(4))
    return path.read_text().strip()


class Wandb:
    """Sends journal lines to W&B.

    Args:
        recipe: configuration, project, group and mode.
        run: the run directory.
        replay: folder for a segment written later from the journal: always offline, and without W&B's
            measurements of the machine, as it is not the machine of the run.
    """

    def __init__(self, recipe: Recipe, run: Path, replay: Path | None = None) -> None:
        # artifacts wait in the run directory until their upload, not in the user's home
        os.environ["WANDB_DATA_DIR"] = str(RunDir(run).wandb_data.absolute())
        os.environ.setdefault("WANDB_SILENT", "true")
        if "wandb" not in sys.modules:
            with temporary_folders():  # its import makes two, for the life of the process
                import wandb
        import wandb

        logging.getLogger("wandb").setLevel(logging.ERROR)
        track, replayed = recipe.track, replay is not None
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
            mode="offline" if replayed else track.wandb,
            config=recipe.model_dump(mode="json"),
            settings=wandb.Settings(console="off", x_disable_stats=replayed, x_disable_meta=replayed),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def __call__(self, line: JournalLine) -> None:
        """Send one journal line; lines without a step (starts, restarts) stay in the journal only."""
        if line["kind"] not in STEPPED:
            return
        import numpy as np
        import wandb

        values: dict[str, Any] = {f"lr/{name}": value for name, value in line.get("lr", {}).items()}
        for key, value in line.items():
            if isinstance(value, int | float):
                values[f"train/{key}" if line["kind"] == "train" and key not in BARE else key] = value
        if busy := line.get("busy"):
            values |= {f"busy/{name}": value for name, value in busy.items()}
        if gate := line.get("gate"):
            values["gate/mean"] = gate["mean"]
            edges = np.linspace(0, 1, GATE_BINS + 1)
            values["gate/histogram"] = wandb.Histogram(np_histogram=(np.array(gate["counts"]), edges))
        self._run.log(values, step=line["step"])

    def finish(self, results: RunMetrics | None) -> None:
        """End the segment.

        Args:
            results: `metrics.json` of a finished run; it is sent with table, plots and the chosen artifact.
                None if the run is not finished.
        """
        if results:
            with temporary_folders():  # one for each table
                self._results(results)
        self._run.finish()

    def abandon(self) -> None:
        """Kill W&B's own process, which this process would wait for when it ends."""
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if child.name() == SERVICE:
                    child.kill()
        import wandb

        wandb.teardown()

    def _results(self, results: RunMetrics) -> None:
        import wandb

        self._run.summary.update(results["metrics"])
        errors = {"test": results["metrics"], **_by_kind(results["baselines"])}
        columns = ["target", "unit", "test", "mean", "composition"]
        rows = []
        for metric in results["metrics"]:
            name = metric.removeprefix("test/")
            found = [errors[kind].get(f"{kind}/{name}") for kind in columns[2:]]
            rows.append([*target_of_metric(name, results["units"]), *found])
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
        folder = run.export if kind == "export" else run.checkpoints
        artifact = wandb.Artifact(f"{kind}-{run_id(self._folder)}", type=kind, metadata={"step": steps})
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact)


def guarded_wandb(recipe: Recipe, run: Path, tell: Callable[[str], None]) -> GuardedSink | None:
    """Return the W&B sink of a run (None: the recipe has none); `tell` is called once if it fails."""
    if recipe.track.wandb == "disabled":
        return None
    return GuardedSink("W&B", lambda: Wandb(recipe, run), tell)


def _by_kind(errors: dict[str, float | None]) -> dict[str, dict[str, float | None]]:
    """Group errors such as `mean/mae/gap_eV` by their first word."""
    groups: dict[str, dict[str, float | None]] = {}
    for name, value in errors.items():
        groups.setdefault(name.split("/")[0], {})[name] = value
    return groups
