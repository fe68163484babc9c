"""A checkpoint of another number of ranks, through DeepSpeed's universal checkpoint.

The first rank has DeepSpeed's converter (a process of its own: it prints, and uses several) cut the flat
partitions of all ranks into named float32 tensors; every rank loads its own part of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.train.ranks import POLL, Ranks


def load_universal(checkpoint: Path, tag: str, engine: Any, ranks: Ranks) -> None:
    """Load `checkpoint/tag` into an engine of another number of ranks; what is converted is removed then.

    Raises:
        RuntimeError: on the first rank, if DeepSpeed's converter fails.
        Stopped: on the others then, and on all if the first one was asked to stop meanwhile.
    """
    target = f".{checkpoint.name}.universal"
    place = checkpoint.with_name(target)

    def work(moved: Callable[[], None]) -> None:
        shutil.rmtree(place, ignore_errors=True)
        _convert(checkpoint.parent, f"{checkpoint.name}/{tag}", f"{target}/{tag}", moved)

    ranks.run_on_rank0("converting the checkpoint for another number of ranks", work)
    config = engine._config  # the recipe's configuration is written before it is known what is continued
    config.load_universal_checkpoint = True
    try:
        with _empty_shares(engine), _apart(engine):
            engine.load_checkpoint(str(place), tag=tag, load_module_strict=False)
    finally:
        config.load_universal_checkpoint = False
    ranks.barrier()
    if ranks.is_rank0:
        shutil.rmtree(place)


@contextmanager
def _empty_shares(engine: Any) -> Iterator[None]:
    """Let a rank load that has no number of some parameter group, as happens where a group is small.

    DeepSpeed (0.19.8, stages 1 and 2) takes a group's step count from the rank's first parameter of it, and
    raises IndexError in `load_hp_checkpoint_state_from_checkpoint_dir` where there is none.
    Inside the block the group's first parameter has a share of length zero.
    """
    from deepspeed.utils.tensor_fragment import fragment_address, tensor_fragment

    given = []
    for index, group in enumerate(getattr(engine.optimizer, "bit16_groups", [])):
        if all(p._hp_mapping is None for p in group):
            nothing, nowhere = group[0].detach().flatten()[:0].float(), fragment_address(numel=0, start=0)
            group[0]._hp_mapping = tensor_fragment(
                lp_fragment=nothing,
                lp_fragment_address=nowhere,
                hp_fragment=nothing,
                hp_fragment_address=nowhere,
                gradient_dict={},
                offload_gradient_dict={},
                use_offload=False,
                param_group_index=index,
                optim_fragment={},
            )
            given.append(group[0])
    try:
        yield
    finally:
        for p in given:
            p._hp_mapping = None


@contextmanager
def _apart(engine: Any) -> Iterator[None]:
    """Keep parameter groups apart: rates, decay and names as the recipe says, a count of steps for each.

    DeepSpeed (0.19.8, `load_hp_checkpoint_state_from_checkpoint_dir_stage3`) gives all groups the settings of
    the checkpoint's first one, and one tensor as their common count, which then grows with every group.
    """
    groups = engine.optimizer.param_groups
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    try:
        yield
    finally:
        for group, own in zip(groups, settings, strict=True):
            group.update(own)
        for state in engine.optimizer.optimizer.state.values():
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).clone()


def _convert(folder: Path, source: str, target: str, moved: Callable[[], None]) -> None:
    """Run the converter below `folder` (its names of files are patterns, so they are relative to it).

    Raises:
        RuntimeError: with the end of what it said, if it failed.
    """
    workers = str(min(8, len(os.sched_getaffinity(0))))
    (folder / target).parent.mkdir()
    command = [
        sys.executable,
        "-m",
        "deepspeed.checkpoint.ds_to_universal",
        "--input_folder",
        source,
        "--output_folder",
        target,
        "--num_extract_workers",
        workers,
        "--num_merge_workers",
        workers,
        "--inject_missing_state",
    ]
    alone = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=alone,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as converter:
        try:
            said = _ended(converter, moved)
        except BaseException:
            os.killpg(converter.pid, signal.SIGKILL)  # its workers too
            raise
    if converter.returncode:
        raise RuntimeError(f"DeepSpeed's ds_to_universal failed on {folder / source}:\n{said[-2000:]}")


def _ended(process: subprocess.Popen[str], moved: Callable[[], None]) -> str:
    """Wait for a process that lives; returns what it wrote to standard error."""
    while True:
        try:
            return process.communicate(timeout=POLL)[1]
        except subprocess.TimeoutExpired:
            moved()
