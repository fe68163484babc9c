"""Origin of a run: its recipe, the content of its shards, its split and its plugins, by SHA-256.

Checkpoints and results store the origin (`origin`). Training, evaluation and reports compare it with the
current recipe and data (`refuse_changed`): with a new split under the same name, a run could test molecules
that it was trained on. Files of earlier versions lack the origin and are accepted without this check.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split, split_sha256
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import Conditions, Origin
from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.stored.recipe import has_data, read_data_record
from mmgnn_dist.version import __version__

PACKAGES = ("torch", "torch-geometric", "deepspeed", "transformers", "numpy", "pyarrow")
Data = tuple[Path | None, str, int]  # shard set, split and fold


def origin(recipe: Recipe, shards: ShardSet, split: str) -> Origin:
    """Identify the sources of a run.

    Args:
        recipe: recipe of the run.
        shards: its shard set.
        split: its `split_sha256`.

    Returns:
        `recipe`, `shards_sha256`, `split_sha256`, and `plugins` if the recipe names any.
    """
    sources: Origin = {"recipe": recipe.fingerprint(), "shards_sha256": shards.sha256, "split_sha256": split}
    if used := [plugin.identity for plugin in recipe.plugins()]:
        sources["plugins"] = used
    return sources


def same_recipe(run: Path, recipe: Recipe, recorded: str) -> bool:
    """Whether a fingerprint that a run recorded, also one of an earlier version, is that of a recipe."""
    if recorded == recipe.fingerprint():
        return True
    begun = read_data_record(RunDir(run))
    written = {str(recipe.data.shards), begun["shards"] if begun else str(recipe.data.shards)}
    return any(recorded == recipe.earlier_fingerprint(shards) for shards in written)


def refuse_changed(runs: Mapping[Path, Recipe]) -> None:
    """Check that checkpoints and results of runs were made from the current recipes and data.

    Args:
        runs: recipe of each run directory; a directory need not exist.

    Raises:
        UserError: recipe, shards, split or plugins of a run have changed, or its data cannot be read.
    """
    data_cache: dict[Data, tuple[ShardSet, str]] = {}
    for run, recipe in runs.items():
        split_label = f"split '{recipe.data.split}' (fold {recipe.data.fold}) of {recipe.data.shards}"
        labels = {
            "recipe": "recipe",
            "shards_sha256": f"content of {recipe.data.shards}",
            "split_sha256": split_label,
        }
        finished = RunDir(run).metrics.is_file()
        for path, recorded in _records(run):
            if "split_sha256" not in recorded:
                continue
            made = cast(Origin, recorded)
            current: Mapping[str, object] = made  # a finished run needs no shards
            if has_data(recipe) or not finished:
                current = origin(recipe, *_data(recipe, data_cache))
            _refuse_other_plugins(
                path, made.get("plugins", []), [plugin.identity for plugin in recipe.plugins()]
            )
            changed = [label for key, label in labels.items() if recorded[key] != current[key]]
            if same_recipe(run, recipe, made["recipe"]):
                changed = [label for label in changed if label != labels["recipe"]]
            elif labels["recipe"] not in changed:
                changed.insert(0, labels["recipe"])
            if changed:
                raise UserError(
                    f"{path} was made with another {' and another '.join(changed)}: its test "
                    "might include molecules that it was trained on; put the old one back, or train anew in "
                    "another directory (--run DIR, for a study or sweep --dir DIR)"
                )


def _refuse_other_plugins(
    path: Path, recorded: list[dict[str, str]], current: Collection[dict[str, str]]
) -> None:
    """Check that the plugins of a run are the same as at its start."""
    current_by_name = {(plugin["group"], plugin["name"]): plugin for plugin in current}
    for plugin in recorded:
        other = current_by_name.get((plugin["group"], plugin["name"]))
        if other is not None and other != plugin:
            recorded_text, current_text = (
                f"{identity['package']} {identity['version']} (SHA-256 {identity['sha256'][:12]})"
                for identity in (plugin, other)
            )
            raise UserError(
                f"{path} was made with plugin '{plugin['name']}' of {recorded_text}, which is "
                f"{current_text} here: install that one again, or train anew in another directory "
                "(--run DIR, for a study --dir DIR)"
            )


def _data(recipe: Recipe, data_cache: dict[Data, tuple[ShardSet, str]]) -> tuple[ShardSet, str]:
    """Return the shard set of a recipe and the SHA-256 of its split; each is read once."""
    data = recipe.data
    key = data.shards, data.split, data.fold
    if key not in data_cache:
        assert data.shards is not None
        shards = ShardSet.open(data.shards, verify=False)
        data_cache[key] = shards, split_sha256(load_split(shards, data.split, data.fold))
    return data_cache[key]


def _records(run: Path) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """Yield the records of results and checkpoints of a run; damaged manifests are left out."""
    paths = RunDir(run)
    if paths.metrics.is_file():
        yield paths.metrics, read_json(paths.metrics)
    for folder in checkpoint.complete(paths.checkpoints):
        if (manifest := checkpoint.read_checkpoint_manifest(folder)) is not None:
            yield folder, manifest


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute.

    That of mmgnn_dist is the package's own: where it is copied into a container it has no metadata.
    """
    own = {"python": platform.python_version(), "mmgnn_dist": __version__}
    return own | {name: version(name) for name in PACKAGES}


def conditions(recipe: Recipe, device: torch.device) -> Conditions:
    """Return what decides the bits of a rank's steps beside recipe, data and number of ranks."""
    return {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "micro_batch": recipe.train.micro_batch,
        "versions": versions(),
    }


def _processor() -> str:
    """Name of the processor, and the instructions that torch uses: AVX2, AVX512."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
