"""A trained model in a separate folder: the recipe, and weights in safetensors.

The folder has the files of a run directory that predictions need, without journal, checkpoints and data. It
names the frozen weights of a language model and does not copy them (`train/checkpoint/export.py`). Its
README.md is the model card.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, sha256, write_text
from mmgnn_dist.predict.card import model_card
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.export import read_export
from mmgnn_dist.train.stored.recipe import stored_recipe


def open_bundle(folder: Path, overrides: list[str]) -> Recipe:
    """Load the recipe of a folder that holds a trained model.

    Raises:
        UserError: the folder has no trained model.
    """
    paths = RunDir(folder)
    if not paths.recipe.is_file() or not paths.export_about.is_file():
        raise UserError(
            f"no trained model at {folder}: give a folder made by 'mmgnn train' or 'mmgnn export'"
        )
    return stored_recipe(paths, overrides)


def export_run(run: Path, to: Path) -> Path:
    """Copy the trained model of a run to a new folder.

    Raises:
        UserError: `run` has no trained model, the model is damaged, or `to` is not empty.
    """
    recipe = open_bundle(run, [])
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} is not empty: give a new folder")
    old, new = RunDir(run), RunDir(to)
    if sha256(old.export_weights) != read_json(old.export_about)["sha256"]:
        raise UserError(f"{old.export_weights} is truncated or altered: train the run again")
    new.export.mkdir(parents=True, exist_ok=True)
    for source, copy in (
        (old.recipe, new.recipe),
        (old.export_weights, new.export_weights),
        (old.export_about, new.export_about),
    ):
        shutil.copyfile(source, copy)
    if old.export_trained_on.is_file():
        shutil.copyfile(old.export_trained_on, new.export_trained_on)
    if old.card.is_file():  # of an exported folder: it has no results of its own
        shutil.copyfile(old.card, new.card)
    else:
        write_text(new.card, model_card(old, recipe, read_export(old)))
    return to
