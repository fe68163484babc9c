"""Packing of the Python environment and the code into one file, which every node unpacks on its own disk.

512 ranks that import torch from a shared disk ask it for millions of small files. With `mmgnn submit --stage`
the login node packs the environment once (tar, gzip), and a job reads one file for each node (`unpack.py`).
What is packed is the folder of the environment, and other folders `site-packages` on its path. Checkouts that
are installed as editable stay where they are, but for this package, of which a job always has a copy.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict

from mmgnn_dist.cluster.slurm.profile import Profile
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json, write_json
from mmgnn_dist.progress import Progress

LEVEL = 1  # of gzip: higher ones cost the login node minutes and save little
ABOUT = "about.json"  # in the archive: what unpack.py has to change
PACKAGES = ("site-packages", "dist-packages")
ASK = """
import json, sys, os
conda = os.path.isdir(os.path.join(sys.prefix, "conda-meta"))
print(json.dumps({"prefix": sys.prefix, "base": sys.base_prefix, "path": sys.path[1:], "conda": conda,
                  "python": getattr(sys, "_base_executable", sys.executable)}))
"""


class PackedRecord(TypedDict):
    """Record of an archive, beside it."""

    sha256: str
    bytes: int
    files: int


@dataclass(frozen=True)
class Stage:
    """A packed environment.

    Attributes:
        archive: the file, on a shared disk.
        record: its checksum and size.
        python: interpreter that unpacks it on a node; it needs nothing but the standard library.
        elsewhere: folders of the path that are not packed, and are read where they are.
        packed_now: whether this call has packed it; else it was there.
    """

    archive: Path
    record: PackedRecord
    python: str
    elsewhere: list[str]
    packed_now: bool

    def lines(self) -> list[str]:
        """Return the lines of the batch script that unpack it."""
        return [f"mmgnn_stage '{self.archive}' {self.record['sha256']} '{self.python}'"]


STAGED_PYTHON = '"$MMGNN_STAGED"/env/bin/python'  # in the batch script, after the lines of a stage


class _Environment(TypedDict):
    prefix: str
    base: str
    path: list[str]
    conda: bool
    python: str


def check_stage(profile: Profile, own: str) -> None:
    """Check that the environment of a profile can be packed; `own` is the interpreter that submits.

    Raises:
        UserError: if it cannot.
    """
    if profile.container:
        raise UserError("--stage with a container: its image is one file already, leave --stage out")
    _examine(profile.python or own)


def pack_stage(profile: Profile, own: str, code: Path, folder: Path, quiet: bool) -> Stage:
    """Pack the environment of a profile and a copy of the code, unless the same was packed before.

    Args:
        profile: names the interpreter; without it that of `own`.
        own: the interpreter that submits.
        code: folder of the copy of the package.
        folder: folder of the archives.
        quiet: show no progress.

    Returns:
        The archive.

    Raises:
        UserError: if the environment cannot be packed.
    """
    environment = _examine(profile.python or own)
    prefix = Path(environment["prefix"])
    packed, elsewhere = _path(environment)
    sources = {"env": prefix, "code": code} | {f"extra/{k}": path for k, path in enumerate(packed)}
    members = _members(sources)
    key = hashlib.sha256(json.dumps([str(prefix), *(member.line for member in members)]).encode())
    archive = folder / f"{key.hexdigest()[:16]}.tar.gz"
    about = archive.with_suffix(".json")
    python = environment["python"]
    if archive.is_file() and about.is_file():
        record: PackedRecord = read_json(about)
        if record["bytes"] == archive.stat().st_size:
            return Stage(archive, record, python, elsewhere, False)
    moved = {str(path): f"extra/{k}" for k, path in enumerate(packed)} | {str(prefix): "env"}
    with Progress("pack", quiet) as progress:
        record = _write(archive, members, moved, progress)
    write_json(about, record)
    return Stage(archive, record, python, elsewhere, True)


def _examine(python: str) -> _Environment:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([python, "-c", ASK], check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise UserError(f"{python} does not start ({done.stderr.strip()[-200:]}): name another (python)")
    found: _Environment = json.loads(done.stdout)
    if found["prefix"] == found["base"] and not found["conda"]:
        raise UserError(
            f"--stage packs a virtual environment, and {python} is none: make one (python -m venv), or name "
            "its interpreter in the profile (python)"
        )
    return found


def _path(environment: _Environment) -> tuple[list[Path], list[str]]:
    """Return further folders of packages to pack, and what stays where it is."""
    prefix, base = Path(environment["prefix"]), Path(environment["base"])
    packed, elsewhere = [], []
    for name in dict.fromkeys(environment["path"]):
        path = Path(name)
        inside = prefix in path.parents or base in path.parents
        if inside or not path.is_dir() or (path / "mmgnn_dist").is_dir():  # the job has a copy of that
            continue
        if path.name in PACKAGES:
            packed.append(path)
        else:
            elsewhere.append(name)
    return packed, elsewhere


@dataclass(frozen=True)
class _Member:
    """A file of the archive: its name there, where it is and below which folder, what identifies it."""

    name: str
    path: Path
    top: Path
    line: str


def _members(sources: dict[str, Path]) -> list[_Member]:
    found = []
    for top, source in sources.items():
        for folder, folders, files in os.walk(source):
            folders.sort()
            for name in ["", *sorted(folders), *sorted(files)]:
                path = Path(folder, name)
                if name in folders and not path.is_symlink():  # comes when its turn is
                    continue
                status = path.lstat()
                inner = f"{top}/{path.relative_to(source)}".removesuffix("/.")
                size = f"{status.st_size} {status.st_mtime_ns}" if name else "folder"
                line = f"{inner} {size} {path.readlink() if path.is_symlink() else ''}"
                found.append(_Member(inner, path, source, line))
    return found


class _Hashed:
    """A file to write to, whose SHA-256 is computed meanwhile."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write(archive: Path, members: list[_Member], moved: dict[str, str], progress: Progress) -> PackedRecord:
    with atomic_path(archive) as part, open(part, "wb") as file:
        hashed = _Hashed(file)
        with (
            gzip.GzipFile(fileobj=hashed, mode="wb", compresslevel=LEVEL, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as tar,
        ):
            about = json.dumps(moved).encode()
            entry = tarfile.TarInfo(ABOUT)
            entry.size = len(about)
            tar.addfile(entry, io.BytesIO(about))
            for number, member in enumerate(members, 1):
                _add(tar, member)
                if number % 500 == 0 or number == len(members):
                    progress(number, len(members), "files")
        digest = hashed.sha256.hexdigest()
    return {"sha256": digest, "bytes": archive.stat().st_size, "files": len(members)}


def _add(tar: tarfile.TarFile, member: _Member) -> None:
    entry = tar.gettarinfo(member.path, member.name)
    if entry is None:  # a socket
        return
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode &= 0o755
    if entry.islnk():  # its first name may be outside of the archive's order: store the content
        entry.type, entry.size, entry.linkname = tarfile.REGTYPE, member.path.stat().st_size, ""
    if entry.issym() and not Path(entry.linkname).is_absolute():
        target = Path(os.path.normpath(member.path.parent / entry.linkname))
        if member.top not in target.parents:
            entry.linkname = str(target)  # it leads out of the environment
    if entry.isreg():
        with open(member.path, "rb") as content:
            tar.addfile(entry, content)
    else:
        tar.addfile(entry)
