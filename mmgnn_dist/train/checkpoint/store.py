"""Checkpoints on disk: complete or absent.

    checkpoints/step_000200/   ds/ (DeepSpeed's files), ema.safetensors, state.json, manifest.json

A checkpoint is written under another name and renamed when it is complete (see `writer.py`), so a folder with
the name `step_N` is complete. Its manifest has file sizes, SHA-256, world size, recipe, and the identity of
the encoder, whose frozen weights are not copied. A run continues from the newest checkpoint; older ones are
pruned only after a newer one is complete.

DeepSpeed's files are pickles, and it finds them by patterns. A checkpoint is therefore loaded only if its
folders hold exactly the files of its manifest, with these checksums, and all belong to the current user.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import others_may_write, read_json, sha256
from mmgnn_dist.run_records import CheckpointManifest, EncoderIdentity, LoopValues, same_encoder
from mmgnn_dist.train.checkpoint.reshard import load_universal
from mmgnn_dist.train.ranks import Ranks

CHECKPOINT_MANIFEST, STATE, EMA = "manifest.json", "state.json", "ema.safetensors"
TAG = "ds"
READ_MANIFEST = TypeAdapter(CheckpointManifest)


def folder_of(step: int) -> str:
    """Return the name of the folder of a checkpoint."""
    return f"step_{step:06d}"


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint from the name of its folder."""
    return int(checkpoint.name.removeprefix("step_"))


def complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints below `folder`, oldest first; folders with other names are ignored."""
    named = (path for path in Path(folder).glob("step_*") if re.fullmatch(r"step_\d+", path.name))
    return sorted((path for path in named if (path / CHECKPOINT_MANIFEST).is_file()), key=step_of)


def discard(checkpoint: Path) -> None:
    """Remove a checkpoint; it is renamed first, so a half-removed one never counts as complete.

    Files that cannot be removed now (NFS keeps files that a process has open) are removed at the next save.
    """
    old = checkpoint.with_name(f".{checkpoint.name}.old")
    checkpoint.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def set_aside(checkpoint: Path) -> None:
    """Rename a checkpoint that cannot be used to `damaged_step_N`, in place of an earlier one."""
    aside = checkpoint.with_name(f"damaged_{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)


def newest(folder: Path, moved: Callable[[], None] = lambda: None) -> Path | None:
    """Return the newest complete checkpoint whose files match its manifest and belong to this user.

    Newer ones that cannot be used are set aside, for the run will write checkpoints of the same steps.

    Args:
        folder: `checkpoints/` of a run.
        moved: called for every file that is read.

    Raises:
        UserError: there are checkpoints, and none of them can be used.
    """
    checkpoints = complete(folder)
    unusable: list[Path] = []
    if checkpoints:
        refuse_foreign(folder)
    for checkpoint in reversed(checkpoints):
        fault = fault_of(checkpoint, moved)
        if fault is None:
            for damaged in unusable:
                set_aside(damaged)
            return checkpoint
        print(f"{checkpoint} is not used: {fault}", flush=True)
        unusable.append(checkpoint)
    if checkpoints:
        raise UserError(f"no checkpoint of {folder} can be used: remove the folder to start again")
    return None


def refuse_foreign(folder: Path) -> None:
    """Refuse checkpoints that group or others may have put there.

    Args:
        folder: `checkpoints/` of a run.

    Raises:
        UserError: group or others may write to the folder or to one above it, or it is another user's.
    """
    if (owner := folder.stat().st_uid) != os.getuid():
        raise UserError(
            f"{folder} belongs to another user (uid {owner}), and pickles of others are not loaded: have "
            "that user continue it, or take a copy ('cp -r') of the run"
        )
    if writable := others_may_write(folder):
        raise UserError(
            f"group or others may write to {writable}, so the pickles of {folder} may be theirs: see that "
            f"they are yours and 'chmod go-w {writable}', or take a --run DIR elsewhere"
        )


def agreed_newest(folder: Path, ranks: Ranks) -> Path | None:
    """Call `newest` on the first rank and return its result on all ranks.

    Raises:
        UserError: on all ranks, as in `newest`.
    """

    def look(moved: Callable[[], None]) -> tuple[Path | None, str | None]:
        try:
            return newest(folder, moved), None
        except UserError as error:
            return None, str(error)

    checkpoint, fault = ranks.all_gather(ranks.run_on_rank0("checking the checkpoint", look))[0]
    if fault:
        raise UserError(fault)
    return checkpoint


def read_checkpoint_manifest(checkpoint: Path) -> CheckpointManifest | None:
    """Read the manifest of a checkpoint; return None if it is missing, truncated or invalid."""
    try:
        return READ_MANIFEST.validate_json((checkpoint / CHECKPOINT_MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def fault_of(checkpoint: Path, moved: Callable[[], None] = lambda: None) -> str | None:
    """Return the first fault of a checkpoint, None without any."""
    manifest = read_checkpoint_manifest(checkpoint)
    if manifest is None:
        return f"{CHECKPOINT_MANIFEST} is truncated or altered"
    entries = {str(path.relative_to(checkpoint)): path for path in checkpoint.rglob("*")}
    for name, path in {".": checkpoint, **entries}.items():
        status = path.lstat()
        if status.st_uid != os.getuid():
            return f"{name} belongs to another user, and pickles of others are not loaded"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not path.is_symlink():
            return f"group or others may write to {name}, and pickles of others are not loaded"
        if path.is_symlink() or not (
            path.is_dir() or name == CHECKPOINT_MANIFEST or name in manifest["files"]
        ):
            return f"{name} is not of it: remove it"
    for name, expected in manifest["files"].items():
        moved()
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
            return f"{name} is truncated or altered"
    return None


def load(
    checkpoint: Path, engine: Any, ranks: Ranks, encoder: EncoderIdentity | None
) -> tuple[LoopValues, dict[str, torch.Tensor]]:
    """Load a verified checkpoint, written by any number of ranks, into the engine.

    Args:
        checkpoint: result of `newest`.
        engine: a new DeepSpeed engine.
        ranks: this process among all ranks.
        encoder: identity of the encoder of this run; the checkpoint lacks its frozen weights.

    Returns:
        The loop's state, and the averaged weights by name.

    Raises:
        UserError: the encoder has changed, or DeepSpeed cannot convert the checkpoint for these ranks.
    """
    from safetensors.torch import load_file

    manifest: CheckpointManifest = read_json(checkpoint / CHECKPOINT_MANIFEST)
    if not same_encoder(manifest["encoder"], encoder):
        raise UserError(
            f"{checkpoint} was written with the encoder {manifest['encoder']}, and this run has "
            f"{encoder}: give the same one, or another --run DIR"
        )
    # without sharding every rank has the whole state, and any number of ranks reads the same file
    if manifest["world"] != ranks.world and engine.zero_optimization():
        if not isinstance(engine.optimizer.optimizer, torch.optim.AdamW):
            raise UserError(
                f"{checkpoint} was written by {manifest['world']} ranks, and DeepSpeed converts only "
                f"those of train.optim.name=adamw for {ranks.world}: continue with as many ranks as before"
            )
        load_universal(checkpoint, TAG, engine, ranks)
    else:
        path, _ = engine.load_checkpoint(str(checkpoint), tag=TAG, load_module_strict=False)
        if path is None:
            raise RuntimeError(f"DeepSpeed did not read {checkpoint}")
    values: LoopValues = read_json(checkpoint / STATE)
    return values, load_file(checkpoint / EMA)
