"""What a run was made from: its recipe, the content of its shards, its split and its plugins, by SHA-256.

Checkpoints and results carry these (`origin`), and whoever continues, evaluates or reports runs has them
compared with what there is now (`refuse_changed`): a split that is drawn anew under the same name would let a
run test molecules that it has learned from. Files of earlier versions lack them and are taken as they are.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import cast

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split, split_sha256
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import Origin
from mmgnn_dist.train.checkpoint import store as checkpoint

PACKAGES = ("mmgnn_dist", "torch", "torch-geometric", "deepspeed", "transformers", "numpy", "pyarrow")
Data = tuple[Path | None, str, int]  # shard set, split and fold


def origin(recipe: Recipe, shards: ShardSet, split: str) -> Origin:
    """What identifies the sources of a run.

    Args:
        recipe: its recipe.
        shards: its shard set.
        split: its `split_sha256`.

    Returns:
        `recipe`, `shards_sha256`, `split_sha256`, and `plugins` if the recipe names any.
    """
    sources: Origin = {"recipe": recipe.fingerprint(), "shards_sha256": shards.sha256, "split_sha256": split}
    if used := [plugin.identity for plugin in recipe.plugins()]:
        sources["plugins"] = used
    return sources


def refuse_changed(runs: Mapping[Path, Recipe]) -> None:
    """See that the checkpoints and results of runs were made from what their recipes name now.

    Args:
        runs: recipe of each run directory, which need not be there.

    Raises:
        UserError: recipe, shards or split of a run are others now, or its data cannot be read.
    """
    known: dict[Data, tuple[ShardSet, str]] = {}
    for run, recipe in runs.items():
        name = f"split '{recipe.data.split}' (fold {recipe.data.fold}) of {recipe.data.shards}"
        words = {
            "recipe": "recipe",
            "shards_sha256": f"content of {recipe.data.shards}",
            "split_sha256": name,
        }
        for path, then in _records(run):
            if "split_sha256" not in then:
                continue
            now = origin(recipe, *_data(recipe, known))
            named: Mapping[str, object] = now
            _refuse_other_plugins(path, cast(Origin, then).get("plugins", []), now.get("plugins", []))
            if changed := [word for key, word in words.items() if then[key] != named[key]]:
                raise UserError(
                    f"{path} was made with another {' and another '.join(changed)}: molecules that it has "
                    "learned from might be tested; put the old one back, or train anew in another directory "
                    "(--run DIR, for a study or sweep --dir DIR)"
                )


def _refuse_other_plugins(path: Path, then: list[dict[str, str]], now: Collection[dict[str, str]]) -> None:
    """See that the plugins of a run are those that it was begun with."""
    here = {(plugin["group"], plugin["name"]): plugin for plugin in now}
    for plugin in then:
        other = here.get((plugin["group"], plugin["name"]))
        if other is not None and other != plugin:
            was, is_now = (
                f"{one['package']} {one['version']} (SHA-256 {one['sha256'][:12]})" for one in (plugin, other)
            )
            raise UserError(
                f"{path} was made with plugin '{plugin['name']}' of {was}, which is {is_now} here: install "
                "that one again, or train anew in another directory (--run DIR, for a study --dir DIR)"
            )


def _data(recipe: Recipe, known: dict[Data, tuple[ShardSet, str]]) -> tuple[ShardSet, str]:
    """The shard set of a recipe and the SHA-256 of its split, read once."""
    data = recipe.data
    key = data.shards, data.split, data.fold
    if key not in known:
        assert data.shards is not None
        shards = ShardSet.open(data.shards, verify=False)
        known[key] = shards, split_sha256(load_split(shards, data.split, data.fold))
    return known[key]


def _records(run: Path) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """What results and checkpoints of a run say of themselves; damaged manifests are of no use to anyone."""
    paths = RunDir(run)
    if paths.metrics.is_file():
        yield paths.metrics, read_json(paths.metrics)
    for folder in checkpoint.complete(paths.checkpoints):
        if (manifest := checkpoint.read_checkpoint_manifest(folder)) is not None:
            yield folder, manifest


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
