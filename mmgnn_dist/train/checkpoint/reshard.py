"""Load a checkpoint of another number of ranks, through DeepSpeed's universal checkpoint.

The first rank runs DeepSpeed's converter in a separate process, because it prints and starts workers. The
converter splits the flat partitions of all ranks into named float32 tensors, and every rank loads its part.
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
    """Load `checkpoint/tag` into an engine of another number of ranks; remove the converted files afterwards.

    Raises:
        RuntimeError: on the first rank, if DeepSpeed's converter fails.
        Stopped: on the other ranks in that case, and on all ranks if the first one was asked to stop.
    """
    target = f".{checkpoint.name}.universal"
    converted = checkpoint.with_name(target)

    def work(moved: Callable[[], None]) -> None:
        shutil.rmtree(converted, ignore_errors=True)
        _convert(checkpoint.parent, f"{checkpoint.name}/{tag}", f"{target}/{tag}", moved)

    ranks.run_on_rank0("converting the checkpoint for another number of ranks", work)
    config = engine._config  # not in `deepspeed_config`, which is made before the checkpoint is known
    config.load_universal_checkpoint = True
    try:
        with _empty_shares(engine), _apart(engine):
            engine.load_checkpoint(str(converted), tag=tag, load_module_strict=False)
    finally:
        config.load_universal_checkpoint = False
    ranks.barrier()
    if ranks.is_rank0:
        shutil.rmtree(converted)


@contextmanager
def _empty_shares(engine: Any) -> Iterator[None]:
    """Context in which a rank can load without any element of some parameter group, as with small groups.

    DeepSpeed (0.19.8, stages 1 and 2) takes a group's step count from the rank's first parameter in it, and
    raises IndexError in `load_hp_checkpoint_state_from_checkpoint_dir` if there is none. Inside the block the
    group's first parameter has a share of length zero.
    """
    from deepspeed.utils.tensor_fragment import fragment_address, tensor_fragment

    patched = []
    for index, group in enumerate(getattr(engine.optimizer, "bit16_groups", [])):
        if all(p._hp_mapping is None for p in group):
            empty, empty_address = group[0].detach().flatten()[:0].float(), fragment_address(numel=0, start=0)
            group[0]._hp_mapping = tensor_fragment(
                lp_fragment=empty,
                lp_fragment_address=empty_address,
                hp_fragment=empty,
                hp_fragment_address=empty_address,
                gradient_dict={},
                offload_gradient_dict={},
                use_offload=False,
                param_group_index=index,
                optim_fragment={},
            )
            patched.append(group[0])
    try:
        yield
    finally:
        for p in patched:
            p._hp_mapping = None


@contextmanager
def _apart(engine: Any) -> Iterator[None]:
    """Context that keeps parameter groups separate: rates, decay and names of the recipe, own step counts.

    DeepSpeed (0.19.8, `load_hp_checkpoint_state_from_checkpoint_dir_stage3`) gives all groups the settings of
    the checkpoint's first group and one shared tensor as step count, so every group would increase it.
    That tensor is in host memory; torch's fused optimiser wants it where the parameter is.
    """
    groups = engine.optimizer.param_groups
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    try:
        yield
    finally:
        for group, group_settings in zip(groups, settings, strict=True):
            group.update(group_settings)
        for parameter, state in engine.optimizer.optimizer.state.items():
            step = torch.as_tensor(state["step"], dtype=torch.float32)
            state["step"] = step.to(parameter.device, copy=True)


def _convert(folder: Path, source: str, target: str, moved: Callable[[], None]) -> None:
    """Run the converter in `folder`; its file names are patterns, so they are relative to the folder.

    Raises:
        RuntimeError: the converter failed; the message has the end of its output.
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
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as converter:
        try:
            stderr = _ended(converter, moved)
        except BaseException:
            os.killpg(converter.pid, signal.SIGKILL)  # with its workers
            raise
    if converter.returncode:
        raise RuntimeError(f"DeepSpeed's ds_to_universal failed on {folder / source}:\n{stderr[-2000:]}")


def _ended(process: subprocess.Popen[str], moved: Callable[[], None]) -> str:
    """Wait for a process to end and call `moved` meanwhile; return its standard error."""
    while True:
        try:
            return process.communicate(timeout=POLL)[1]
        except subprocess.TimeoutExpired:
            moved()
