"""A trained model as a folder of its own: the recipe, and weights in safetensors.

It is the part of a run directory that predictions need, without journal, checkpoints and data. Frozen weights
of a language model are named in it, not copied (`train/export.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mmgnn_dist.config import Recipe, load_recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, sha256
from mmgnn_dist.train.checkpoint.export import EXPORT_ABOUT, WEIGHTS

RECIPE = "recipe.yaml"


def open_bundle(folder: Path, overrides: list[str]) -> Recipe:
    """The recipe of a folder that holds a trained model.

    Raises:
        UserError: if there is none.
    """
    if not (folder / RECIPE).is_file() or not (folder / "export" / EXPORT_ABOUT).is_file():
        raise UserError(f"no trained model at {folder}: give what 'mmgnn train' or 'mmgnn export' has made")
    return load_recipe(folder / RECIPE, overrides)


def export_run(run: Path, to: Path) -> Path:
    """Copy the trained model of a run to a new folder.

    Raises:
        UserError: no trained model there, one that is damaged, or a folder that is not empty.
    """
    open_bundle(run, [])
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} is not empty: give a new folder")
    if sha256(run / "export" / WEIGHTS) != read_json(run / "export" / EXPORT_ABOUT)["sha256"]:
        raise UserError(f"{run / 'export' / WEIGHTS} is truncated or altered: train the run again")
    (to / "export").mkdir(parents=True, exist_ok=True)
    for name in (RECIPE, f"export/{WEIGHTS}", f"export/{EXPORT_ABOUT}"):
        shutil.copyfile(run / name, to / name)
    return to
