"""The recipe of a run directory, read from any folder: a run is what its data are, not where they lie.

A run keeps every path twice: absolute in `recipe.yaml`, and relative to itself in `data.json`. A run that was
moved together with its shard set therefore finds it, and so does one that is looked at from another folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from mmgnn_dist.config import Recipe, load_stored_recipe
from mmgnn_dist.data.shardset.shards import MANIFEST, ShardSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import may_write, read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import DataRecord, RunPaths


def stored_recipe(run: RunDir, overrides: list[str] | None = None) -> Recipe:
    """Read the recipe of a run with the paths where its data lie now; a path that is not found stays.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        overrides: as for `load_recipe`.

    Raises:
        UserError: the recipe is missing or wrong.
    """
    recipe = load_stored_recipe(run.recipe, overrides)
    record = read_data_record(run)
    shards = recipe.data.shards
    if shards is not None and record:
        places = [shards, Path(record["shards"])]
        if "shards_from_run" in record:
            places.append(run.path / record["shards_from_run"])
        shards = _shard_set(places, record.get("shards_sha256", ""))  # earlier versions recorded none
    encoder = recipe.text.encoder
    if record and "encoder_from_run" in record and not Path(encoder).is_dir():
        moved = run.path / record["encoder_from_run"]
        encoder = str(moved.resolve()) if moved.is_dir() else encoder
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"shards": shards}),
            "text": recipe.text.model_copy(update={"encoder": encoder}),
        }
    )


def has_data(recipe: Recipe) -> bool:
    """Whether the shard set of a recipe is where the recipe says."""
    return recipe.data.shards is not None and (recipe.data.shards / MANIFEST).is_file()


def read_data_record(run: RunDir) -> DataRecord | None:
    """Read `data.json`; None where there is none yet."""
    return read_json(run.data) if run.data.is_file() else None


def paths_from_run(run: RunDir, recipe: Recipe) -> RunPaths:
    """Return the paths of a recipe relative to its run directory."""
    base = run.path.resolve()
    paths: RunPaths = {}
    if recipe.data.shards is not None:
        paths["shards_from_run"] = os.path.relpath(recipe.data.shards.resolve(), base)
    if recipe.model.reads_text and Path(recipe.text.encoder).is_dir():
        paths["encoder_from_run"] = os.path.relpath(Path(recipe.text.encoder).resolve(), base)
    return paths


def sidecar_folder(recipe: Recipe, run: RunDir | None) -> Path | None:
    """Return where the text sidecars of a run go if its shard set cannot be written; None if it can.

    That is `data.cache`, else a folder beside the run directory; twins share the one of their run.
    """
    shards = recipe.data.shards
    if shards is None or all(may_write(shards / name) for name in ("tokens", "embeddings")):
        return None
    if recipe.data.cache is not None:
        return recipe.data.cache
    if run is None:
        return None
    above = run.path.absolute()
    while above.parent.name == "twins":
        above = above.parent.parent
    return above.parent / "text-cache"


def _shard_set(places: list[Path], sha256: str) -> Path:
    """Return the first place of a shard set with this content, else the first of any, else the first."""
    found = [place for place in places if (place / MANIFEST).is_file()]
    for place in found:
        try:
            if ShardSet.open(place, verify=False).sha256 == sha256:
                return place
        except UserError:
            continue
    return next(iter(found), places[0])
