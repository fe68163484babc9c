"""What one rank writes of a checkpoint: copied to host memory at a step boundary, written by a thread.

DeepSpeed hands every file of a checkpoint to its checkpoint engine; `Recorder` stands in for that engine and
only takes copies, so the training goes on as soon as the copies are made. The copies keep their memory from
one checkpoint to the next.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.files import reraise_disk_error, sha256
from mmgnn_dist.run_records import FileEntry

Write = Callable[[Path], None]


class HostCopies:
    """Copies of nested values whose tensors lie in host memory (pinned for those of a GPU), used again."""

    def __init__(self) -> None:
        self._buffers: dict[str, list[torch.Tensor]] = {}

    def take(self, key: str, value: Any) -> Any:
        """Copy `value`; valid until the next call with the same key."""
        kept = self._buffers.get(key, [])
        made: list[torch.Tensor] = []

        def walk(part: Any) -> Any:
            if isinstance(part, torch.Tensor):
                index = len(made)
                buffer = kept[index] if index < len(kept) else None
                if buffer is None or buffer.shape != part.shape or buffer.dtype != part.dtype:
                    buffer = torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda)
                made.append(buffer)
                return buffer.copy_(part.detach(), non_blocking=True)
            if isinstance(part, dict):
                return {name: walk(inner) for name, inner in part.items()}
            if type(part) in (list, tuple):
                return type(part)(walk(inner) for inner in part)
            return copy.deepcopy(part)

        copied = walk(value)
        self._buffers[key] = made
        return copied


class Recorder:
    """Stands in for DeepSpeed's checkpoint engine while it saves: copies, and notes what is to be written.

    Args:
        inner: DeepSpeed's own, which answers everything else.
        copies: where tensors go.
        root: the folder that names of files are relative to.
    """

    def __init__(self, inner: Any, copies: HostCopies, root: Path) -> None:
        self._inner, self._copies, self._root = inner, copies, root
        self.files: dict[str, Write] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing: the folders were made before, where ranks agree on a failure."""

    def save(self, state_dict: Any, path: str) -> None:
        """Copy a file's content."""
        name = str(Path(path).relative_to(self._root))
        copied = self._copies.take(name, state_dict)
        self.files[name] = lambda place: _save(copied, place)


def _save(value: Any, place: Path) -> None:
    """`torch.save`, with the system's reason where the disk does not take it.

    Raises:
        OSError: if the file cannot be written.
    """
    with reraise_disk_error(place, RuntimeError):
        torch.save(value, place)


def save_safetensors(tensors: dict[str, torch.Tensor], place: Path) -> None:
    """Write named tensors.

    Raises:
        OSError: if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with reraise_disk_error(place, SafetensorError):
        save_file(tensors, place)


def write_files(folder: Path, files: dict[str, Write]) -> dict[str, FileEntry]:
    """Write and sync files; returns size and SHA-256 of each by name."""
    # the manifest has a SHA-256 of every file: torch's own CRC-32 would be a second reading of all of it
    crc = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        for name, write in files.items():
            write(folder / name)
    finally:
        torch.serialization.set_crc32_options(crc)
    return {name: seal(folder / name) for name in files}


def seal(path: Path) -> FileEntry:
    """Make a written file durable; returns its size and SHA-256."""
    with open(path, "rb") as written:
        os.fsync(written.fileno())
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}
