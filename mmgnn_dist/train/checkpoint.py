"""Checkpoints: complete or absent.

    checkpoints/step_000200/   ds/ (DeepSpeed's files), ema.safetensors, state.json, manifest.json

All ranks write into a folder of another name; then the first rank writes the manifest (sizes, SHA-256,
world size, recipe), syncs, and renames the folder. A folder called `step_N` is therefore whole. The newest
one is used; older ones are pruned only after a newer one stands.

DeepSpeed's files are pickles, so a checkpoint is loaded only if its checksums match its manifest and the
files belong to the user who runs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, sha256, sync_folder, write_json
from mmgnn_dist.train.ranks import Ranks

MANIFEST = "manifest.json"
TAG = "ds"


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints below `folder`, oldest first."""
    return sorted(p for p in Path(folder).glob("step_*") if (p / MANIFEST).is_file())


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint whose files are as its manifest says and belong to this user.

    Raises:
        UserError: if there are checkpoints and not one of them is whole.
    """
    found = complete(folder)
    for checkpoint in reversed(found):
        fault = _fault(checkpoint)
        if fault is None:
            return checkpoint
        print(f"{checkpoint} is not used: {fault}", flush=True)
    if found:
        raise UserError(f"no checkpoint of {folder} can be used: remove the folder to start again")
    return None


def _fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, if anything."""
    for name, expected in read_json(checkpoint / MANIFEST)["files"].items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        status = path.stat()
        if status.st_uid != os.getuid():
            return f"{name} belongs to another user, and pickles of others are not loaded"
        if status.st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
            return f"{name} is truncated or altered"
    return None


def save(
    folder: Path, engine: Any, ema: dict[str, torch.Tensor], state: dict[str, Any], about: dict[str, Any],
    ranks: Ranks, keep: int,
) -> Path:  # fmt: skip
    """Write the checkpoint of `state["step"]`; every rank calls it.

    Args:
        folder: `checkpoints/` of the run.
        engine: the DeepSpeed engine. ema: averaged weights by name.
        state: plain values that the loop continues from. about: goes into the manifest.
        keep: how many of the newest checkpoints stay.
    """
    final = folder / f"step_{state['step']:06d}"
    part = folder / f".{final.name}.part"
    if ranks.first:
        for left in folder.glob(".step_*.part"):
            shutil.rmtree(left)
        part.mkdir(parents=True)
    ranks.barrier()
    engine.save_checkpoint(str(part), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
    if ranks.first:
        from safetensors.torch import save_file

        save_file(ema, part / "ema.safetensors")
        write_json(part / "state.json", state)
    ranks.barrier()
    if ranks.first:
        files = {}
        for path in sorted(p for p in part.rglob("*") if p.is_file()):
            with open(path, "rb") as written:
                os.fsync(written.fileno())
            files[str(path.relative_to(part))] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
        write_json(part / MANIFEST, {**about, "step": state["step"], "world": ranks.world, "files": files})
        if final.exists():
            shutil.rmtree(final)  # a folder of this name that could not be used
        part.rename(final)
        sync_folder(folder)
        for old in complete(folder)[:-keep]:
            shutil.rmtree(old)
    ranks.barrier()
    return final


def load(checkpoint: Path, engine: Any, ranks: Ranks) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Put a verified checkpoint into the engine.

    Returns:
        The loop's state, and the averaged weights by name.

    Raises:
        UserError: if it was written by another number of ranks.
    """
    from safetensors.torch import load_file

    world = read_json(checkpoint / MANIFEST)["world"]
    if world != ranks.world:
        raise UserError(f"{checkpoint} was written by {world} ranks: continue with --nproc {world}")
    path, _ = engine.load_checkpoint(str(checkpoint), tag=TAG, load_module_strict=False)
    if path is None:
        raise RuntimeError(f"DeepSpeed did not read {checkpoint}")
    return read_json(checkpoint / "state.json"), load_file(checkpoint / "ema.safetensors")
