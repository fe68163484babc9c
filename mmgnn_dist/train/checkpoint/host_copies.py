"""The part of a checkpoint that one rank writes: copied to host memory between steps, written by a thread.

DeepSpeed passes every file of a checkpoint to its checkpoint engine. `Recorder` replaces that engine and only
makes copies, so training continues as soon as the copies are made. The copies reuse their memory for the next
checkpoint.
"""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.files import reraise_disk_error, sha256
from mmgnn_dist.run_records import FileEntry

Write = Callable[[Path], None]


class HostCopies:
    """Copies of nested values with tensors in host memory (pinned for GPU tensors); the memory is reused."""

    def __init__(self) -> None:
        self._buffers: dict[str, list[torch.Tensor]] = {}

    def take(self, key: str, value: Any) -> Any:
        """Return a copy of `value`; it is valid until the next call with the same key."""
        old_buffers = self._buffers.get(key, [])
        buffers: list[torch.Tensor] = []

        def walk(part: Any) -> Any:
            if isinstance(part, torch.Tensor):
                index = len(buffers)
                buffer = old_buffers[index] if index < len(old_buffers) else None
                if buffer is None or buffer.shape != part.shape or buffer.dtype != part.dtype:
                    buffer = torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda)
                buffers.append(buffer)
                return buffer.copy_(part.detach(), non_blocking=True)
            if isinstance(part, dict):
                return {name: walk(inner) for name, inner in part.items()}
            if type(part) in (list, tuple):
                return type(part)(walk(inner) for inner in part)
            return copy.deepcopy(part)

        copied = walk(value)
        self._buffers[key] = buffers
        return copied


class Recorder:
    """Replaces DeepSpeed's checkpoint engine during a save: copies the files and lists them.

    Args:
        inner: DeepSpeed's own engine, used for everything else.
        copies: memory for the copies of tensors.
        root: folder to which file names are relative.

    Attributes:
        files: function that writes each file, by name.
    """

    def __init__(self, inner: Any, copies: HostCopies, root: Path) -> None:
        self._inner, self._copies, self._root = inner, copies, root
        self.files: dict[str, Write] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: the folders exist already, made where the ranks agree on a failure."""

    def save(self, state_dict: Any, path: str) -> None:
        """Copy the content of a file."""
        name = str(Path(path).relative_to(self._root))
        copied = self._copies.take(name, state_dict)
        self.files[name] = lambda target: _save(copied, target)


def _save(value: Any, path: Path) -> None:
    """Call `torch.save`; a disk error has the system's reason.

    Raises:
        OSError: the file cannot be written.
    """
    with reraise_disk_error(path, RuntimeError):
        torch.save(value, path)


def save_safetensors(tensors: dict[str, torch.Tensor], place: Path) -> None:
    """Write named tensors to a safetensors file.

    Raises:
        OSError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with reraise_disk_error(place, SafetensorError):
        place.touch()
        mode = stat.S_IMODE(place.stat().st_mode)
        save_file(tensors, place)  # replaces the file by one that only its owner may read
        place.chmod(mode)


def write_files(folder: Path, files: dict[str, Write]) -> dict[str, FileEntry]:
    """Write and sync files; return size and SHA-256 of each by name."""
    # the manifest has a SHA-256 of every file; torch's own CRC-32 would read all of it once more
    crc = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        for name, write in files.items():
            write(folder / name)
    finally:
        torch.serialization.set_crc32_options(crc)
    return {name: seal(folder / name) for name in files}


def seal(path: Path) -> FileEntry:
    """Sync a written file to disk; return its size and SHA-256."""
    with open(path, "rb") as written:
        os.fsync(written.fileno())
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}
