"""Unpacking of a staged environment on a node: `python -m … ARCHIVE SHA256 FOLDER NOTES` in its own step.

It checks the archive, unpacks it, and gives the folder its name only when that is complete. Then it leaves a
note and waits for the end of its input, which comes with the end of the batch script, and removes the folder.
Signals do not end it: ranks may still save, and import what they need for that. It uses the standard library
alone, since the environment is not there yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

from mmgnn_dist.process import (
    dead_folders,
    make_owned_folder,
    remove_owned_folder,
    write_for_owner_only,
)
from mmgnn_dist.signals import STOP_SIGNALS

# first part of the names of unpacked environments; not that of other folders, which processes remove as
# soon as their maker is dead: ranks may still import from it
STAGE = "mmgnn_stage-"


def unpack(archive: Path, sha256: str, folder: Path) -> Path:
    """Unpack an archive to a folder that only this user can enter; those of killed jobs go first.

    Args:
        archive: the file.
        sha256: its checksum.
        folder: name of the folder; its parent is on the local disk.

    Returns:
        The folder under which this process has locked it: to be removed by `remove_owned_folder`.

    Raises:
        ValueError: the archive is damaged.
        PermissionError: somebody else has made the folder.
    """
    write_for_owner_only()
    for dead in dead_folders(folder.parent, STAGE):
        if not _in_use(dead):
            shutil.rmtree(dead, ignore_errors=True)
    part = make_owned_folder(folder.parent, STAGE)
    try:
        with open(archive, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ValueError(f"{archive} is not what was packed (SHA-256): submit again")
            file.seek(0)  # from memory, as a rule
            with tarfile.open(fileobj=file, mode="r:gz") as tar:
                tar.extractall(part, filter="tar")
        _relocate(part, folder)
        try:
            part.rename(folder)
        except OSError:  # a node of the same machine was first
            _see_that_it_is_ours(folder)
            remove_owned_folder(part)
    except BaseException:
        remove_owned_folder(part)
        raise
    return part


def _in_use(folder: Path) -> bool:
    """Return whether a process of this user has a folder in its environment, as the ranks have."""
    name = os.fsencode(folder.name)
    for variables in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # of somebody else, or gone meanwhile
            if name in variables.read_bytes():
                return True
    return False


def _see_that_it_is_ours(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is no folder of this user alone: remove it, or set scratch")


def _relocate(part: Path, folder: Path) -> None:
    """Replace the old places by the new ones: in the first lines of programs, and in the lists of paths."""
    moved = {
        old.encode(): str(folder / new).encode()
        for old, new in json.loads((part / "about.json").read_text()).items()
    }
    for path in (part / "env" / "bin").iterdir():
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            first, newline, rest = content.partition(b"\n")
            if first.startswith(b"#!") and (changed := _replaced(first, moved)) != first:
                path.write_bytes(changed + newline + rest)
    for path in part.glob("env/lib/python*/site-packages/*.pth"):
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join(moved.get(line.strip(), line) for line in lines))


def _replaced(line: bytes, moved: dict[bytes, bytes]) -> bytes:
    for old, new in moved.items():
        line = line.replace(old + b"/", new + b"/")
    return line


def main() -> int:
    """Unpack, wait for the end of the input, remove; returns the exit code."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    archive, sha256, folder, notes = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    try:
        own = unpack(archive, sha256, folder)
    except (OSError, ValueError) as error:
        print(f"mmgnn: {error}", file=sys.stderr)
        return 1
    (notes / f"staged_{os.environ.get('SLURMD_NODENAME', socket.gethostname())}").touch()
    sys.stdin.buffer.read()
    remove_owned_folder(own)
    remove_owned_folder(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
