"""Checks of one node: packages, GPUs, temporary files, shared memory, limits, caches, the recipe's files."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from mmgnn_dist.cluster.doctor.line import Line, fail, ok, warn
from mmgnn_dist.cluster.doctor.plugins import check_plugins
from mmgnn_dist.config import Recipe
from mmgnn_dist.data.prepare.ray_run import OBJECT_STORE
from mmgnn_dist.errors import UserError

NEEDED = ("data", "train")  # extras without which nothing works
SOCKET = 107  # longest path of a socket in bytes (sun_path)
RAY = "/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"  # what Ray appends
LEAST_TMP, GOOD_TMP = 1 << 30, 4 << 30  # bytes
GOOD_FILES, LEAST_FILES = 4096, 1024


def check_node(recipe: Recipe, gpus: int) -> list[Line]:
    """Run all checks of this node; `gpus` is the number that the profile asks of each node."""
    checks: list[Callable[[], list[Line]]] = [
        packages,
        check_plugins,
        lambda: devices(gpus),
        temporary_files,
        shared_memory,
        limits,
        cache,
        lambda: files(recipe),
    ]
    return [line for check in checks for line in check()]


def packages() -> list[Line]:
    """Compare the installed versions with the requirements in pyproject.toml."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires("mmgnn_dist") or []]
    except metadata.PackageNotFoundError:
        return [
            fail("packages", "mmgnn_dist is not installed for this Python", "pip install 'mmgnn_dist[all]'")
        ]
    lines, satisfied = [], []
    for requirement in requirements:
        extra = next(
            (e for e in _extras() if requirement.marker and requirement.marker.evaluate({"extra": e})), None
        )
        if requirement.marker and extra in (None, "dev", "all"):
            continue
        cure = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            needed = extra is None or extra in NEEDED
            lines.append((fail if needed else warn)("packages", f"{requirement.name} is missing", cure))
            continue
        if requirement.specifier.contains(version, prereleases=True):
            satisfied.append(f"{requirement.name} {version}")
        else:
            lines.append(
                fail("packages", f"{requirement.name} {version}, wanted {requirement.specifier}", cure)
            )
    satisfied = list(dict.fromkeys(satisfied))
    shown = [
        text
        for text in satisfied
        if text.split()[0] in ("torch", "deepspeed", "ray", "transformers", "wandb")
    ]
    return lines or [ok("packages", f"{', '.join(shown)} and {len(satisfied) - len(shown)} more")]


def _extras() -> list[str]:
    return metadata.metadata("mmgnn_dist").get_all("Provides-Extra") or []


def devices(wanted: int) -> list[Line]:
    """Check that there are as many GPUs as wanted, and that each computes."""
    import torch

    gpu_count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu_count < wanted:
        cure = "ask for them (gpus_per_node), see nvidia-smi there, and whether torch is built for CUDA"
        return [fail("GPUs", f"{gpu_count} found, {wanted} asked for", cure)]
    if not gpu_count and Path("/dev/nvidia0").exists():
        cure = "install a torch that is built for this driver's CUDA: nvidia-smi names it"
        return [fail("GPUs", f"there is one, but torch {torch.__version__} cannot use it", cure)]
    if not gpu_count:
        return [ok("GPUs", "none, and none asked for: the CPU trains")]
    lines = []
    for index in range(gpu_count):
        name = torch.cuda.get_device_name(index)
        free, total = torch.cuda.mem_get_info(index)
        ones = torch.ones(256, 256, device=f"cuda:{index}")
        if float((ones @ ones).sum()) != 256.0**3:
            lines.append(
                fail("GPUs", f"{index} ({name}) computes wrongly", "leave its node out, tell the site")
            )
        elif free < total / 2:
            text = f"{index} ({name}) has {free >> 30} of {total >> 30} GiB free"
            lines.append(warn("GPUs", text, "end other processes on it: nvidia-smi"))
    return lines or [ok("GPUs", f"{gpu_count} x {torch.cuda.get_device_name(0)}")]


def temporary_files() -> list[Line]:
    """Check the free space for temporary files, and that the paths of Ray's sockets are short enough."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    cure = "set scratch in the profile (or TMPDIR) to another folder, or empty it"
    if not os.access(folder, os.W_OK | os.X_OK):
        return [fail("temporary files", f"{folder} cannot be written", cure)]
    free, inodes = shutil.disk_usage(folder).free, os.statvfs(folder)
    room = f"{folder} has {free / 2**30:.1f} GiB free"
    if free < LEAST_TMP or (inodes.f_files and not inodes.f_favail):
        return [fail("temporary files", room if free < LEAST_TMP else f"{folder} has no inode left", cure)]
    length = len(str(folder)) + len(RAY)
    if length > SOCKET:
        short = "set scratch in the profile (or TMPDIR) to a short path: /tmp"
        return [
            fail("temporary files", f"{folder} is too long for Ray's sockets by {length - SOCKET}", short)
        ]
    return [warn("temporary files", room, cure)] if free < GOOD_TMP else [ok("temporary files", room)]


def shared_memory() -> list[Line]:
    """Check the free space in /dev/shm, where Ray keeps objects and NCCL keeps buffers."""
    free = shutil.disk_usage("/dev/shm").free
    summary = f"/dev/shm has {free / 2**30:.1f} GiB free"
    if free < 2 * OBJECT_STORE:
        return [
            warn(
                "shared memory",
                summary,
                "in a container: start it with --shm-size=2g; else remove files that are left",
            )
        ]
    return [ok("shared memory", summary)]


def limits() -> list[Line]:
    """Check the limits on open files, processes, and, if there is InfiniBand, locked memory."""
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    lines, cure = [], "add 'ulimit -n 65536' to setup of the profile; the hard limit is the site's"
    summary = f"{open_files[0]} open files ({open_files[1]} at most)"
    if open_files[0] < GOOD_FILES:
        lines.append((fail if open_files[0] < LEAST_FILES else warn)("limits", summary, cure))
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if 0 <= processes < LEAST_FILES:
        lines.append(warn("limits", f"{processes} processes and threads", "add 'ulimit -u 16384' to setup"))
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if locked != resource.RLIM_INFINITY and any(Path("/sys/class").glob("infiniband/*")):
        text = f"{locked >> 10} KiB of locked memory, and InfiniBand needs more"
        lines.append(warn("limits", text, "ask the site for 'ulimit -l unlimited' (PropagateResourceLimits)"))
    return lines or [ok("limits", summary)]


def cache() -> list[Line]:
    """Check that the folder of Hugging Face models can be read and written."""
    folder = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        cure = "set cache in the profile (or HF_HOME) to a folder of yours on a shared disk"
        return [warn("model cache", f"{folder} cannot be written", cure)]
    return [ok("model cache", str(folder))]


def files(recipe: Recipe) -> list[Line]:
    """Check that the encoder can be read, and the shard set if the recipe names one."""
    from mmgnn_dist.data.shardset.shards import ShardSet
    from mmgnn_dist.data.text.encoder_files import resolve_encoder

    text, lines = recipe.text, []
    try:
        encoder = resolve_encoder(text.encoder, text.revision, text.random)
        lines.append(ok("encoder", f"{encoder.name} in {encoder.folder}"))
    except UserError as error:
        lines.append(fail("encoder", str(error), f"give a whole model as text.encoder: {FETCH}"))
    if recipe.data.shards is not None:
        try:
            shards = ShardSet.open(recipe.data.shards, verify=False)
            lines.append(ok("shards", f"{recipe.data.shards}: {shards.rows} molecules"))
        except UserError as error:
            lines.append(fail("shards", str(error), "prepare them on a disk that all nodes see"))
    return lines


FETCH = "mmgnn fetch-model NAME@REVISION where there is internet, with HF_HOME on a shared disk"
