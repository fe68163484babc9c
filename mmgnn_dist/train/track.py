"""Weights & Biases as a sink of the journal: offline unless told otherwise, one run id for good.

The id is drawn once and kept in the run directory, so that every restart writes to the same run. The
journal stays the truth; steps are W&B's own axis `step`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
from pathlib import Path
from typing import Any

from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import need
from mmgnn_dist.files import write_text


def check_tracking(recipe: Recipe) -> None:
    """Refuse a recipe that tracks without the package.

    Raises:
        UserError: names the extra, and the recipe's way to do without.
    """
    if recipe.track.wandb != "disabled" and importlib.util.find_spec("wandb") is None:
        raise need("wandb", "track")


def run_id(run: Path) -> str:
    """The W&B id of a run directory, drawn at the first call."""
    path = run / "wandb" / "id"
    if not path.is_file():
        write_text(path, secrets.token_hex(4))
    return path.read_text().strip()


class Wandb:
    """Sends journal lines to W&B.

    Args:
        recipe: its configuration, project and mode. run: the run directory.
    """

    def __init__(self, recipe: Recipe, run: Path) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        logging.getLogger("wandb").setLevel(logging.ERROR)
        self._run: Any = wandb.init(
            project=recipe.track.project, name=run.name, id=run_id(run), resume="allow", dir=str(run),
            mode=recipe.track.wandb, config=recipe.model_dump(mode="json"),
            settings=wandb.Settings(console="off"),
        )  # fmt: skip
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def __call__(self, line: dict[str, Any]) -> None:
        """Send one journal line."""
        numbers = {f"lr/{name}": value for name, value in line.get("lr", {}).items()}
        for key, value in line.items():
            if isinstance(value, int | float):
                numbers[
                    f"train/{key}" if line["kind"] == "train" and key not in ("step", "epoch") else key
                ] = value
        self._run.log(numbers)

    def finish(self, metrics: dict[str, Any], pictures: list[Path]) -> None:
        """Write the final metrics and pictures, and end the segment."""
        import wandb

        self._run.summary.update(metrics)
        if pictures:
            self._run.log({f"plots/{path.stem}": wandb.Image(str(path)) for path in pictures})
        self._run.finish()
