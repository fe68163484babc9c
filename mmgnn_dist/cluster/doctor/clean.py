"""What killed processes have left in temporary folders: found by owner and name, and by who still uses it.

Folders of this package are locked while their process lives (`process.py`). No living process may have the
name of anything in its command line or its environment, or be the one whose number is in the name.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from mmgnn_dist.cluster.staging.unpack import STAGE
from mmgnn_dist.process import PREFIX, dead_folders

LOCKED = (
    PREFIX,
    STAGE,
    ".predict-",
    ".mmgnn-doctor-",
    ".mmgnn-bench-",
)  # prefixes of folders that are locked
OTHERS = {
    "W&B's socket": re.compile(r"wandb_symon-(\d+)-(\d+)-\d+\.sock"),
    "W&B's folder": re.compile(r"wandb-(\d+)-(\d+)-\d+"),
    "Ray's folder": re.compile(r"r\d+\.\d+\.[0-9a-f]{4}"),
    "matplotlib's folder": re.compile(r"matplotlib-\w+"),
}


class Leftover(NamedTuple):
    """Something that a killed process has left.

    Attributes:
        path: where it is.
        what: what it is.
        bytes: size of its files.
    """

    path: Path
    what: str
    bytes: int


def find_leftovers(folders: Iterable[Path]) -> list[Leftover]:
    """Return what dead processes of this user have left in some folders; each folder is looked at once."""
    found: dict[Path, str] = {}
    places = list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))
    processes = list(_processes())
    for place in places:
        for prefix in LOCKED:
            dead = [path for path in dead_folders(place, prefix) if not _named(path, processes)]
            found |= dict.fromkeys(dead, "folder of a process that has ended")
        for path in sorted(place.iterdir()):
            for what, name in OTHERS.items():
                if (match := name.fullmatch(path.name)) and _ours(path) and not _used(path, match, processes):
                    found[path] = what
    return [Leftover(path, what, _size(path)) for path, what in found.items()]


def temporary_places() -> list[Path]:
    """Return the folders in which processes of this package leave something: of temporary files, and here."""
    return [Path(tempfile.gettempdir()), Path("/tmp"), Path.cwd()]


def remove_leftovers(found: list[Leftover]) -> list[Leftover]:
    """Remove what `find_leftovers` has found; returns what could not be removed."""
    kept = []
    for leftover in found:
        with suppress(OSError):
            if leftover.path.is_dir() and not leftover.path.is_symlink():
                shutil.rmtree(leftover.path)
            else:
                leftover.path.unlink()
        if leftover.path.exists():
            kept.append(leftover)
    return kept


class _Process(NamedTuple):
    number: int
    words: str

    def draws(self) -> bool:
        """Return whether the process has loaded matplotlib, or may have: it cannot be seen."""
        try:
            return "/matplotlib/" in Path(f"/proc/{self.number}/maps").read_text(errors="replace")
        except OSError:
            return psutil.pid_exists(self.number)


def _processes() -> Iterable[_Process]:
    """Return the living processes of this user: number, and command line with environment."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.uids().effective == os.geteuid():
                words = "\0".join([*process.cmdline(), *map("=".join, process.environ().items())])
                yield _Process(process.pid, words)


def _ours(path: Path) -> bool:
    status = path.lstat()
    kinds = (stat.S_ISDIR, stat.S_ISSOCK)
    return status.st_uid == os.geteuid() and any(kind(status.st_mode) for kind in kinds)


def _used(path: Path, match: re.Match[str], processes: list[_Process]) -> bool:
    """Return whether a living process may use a file; matplotlib names its folder nowhere."""
    if any(psutil.pid_exists(int(number)) for number in match.groups()):
        return True
    draws = path.name.startswith("matplotlib-")
    return _named(path, processes) or (draws and any(process.draws() for process in processes))


def _named(path: Path, processes: list[_Process]) -> bool:
    """Return whether a living process has the name in its command line or its environment."""
    return any(path.name in process.words for process in processes)


def _size(path: Path) -> int:
    if not path.is_dir():
        return 0
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
