"""Download of QM9 and PCQM4Mv2: resumable, from several sources in turn, and verified before use.

A file is written as `NAME.part`, which the same command continues by a Range request. It gets its final name
when its size and MD5 match the published record; where that gives none, the server says the size, and the
checksums inside the zip archive are compared. On a machine without internet the error says which file to
put where.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import shutil
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import CHUNK, atomic_path, sync_folder

FIGSHARE = "https://ndownloader.figshare.com/files/"
SPRINGER = "https://springernature.figshare.com/ndownloader/files/"
RECORD = "https://doi.org/10.6084/m9.figshare.c.978904"
DOWNLOAD_BLOCK = 1 << 18
PATIENCE = 30.0  # s without a byte
ATTEMPTS = 6  # consecutive attempts without a new byte, at each source
BACKOFF, LONGEST = 1.0, 30.0  # s
FINAL = (400, 401, 403, 404, 410)  # HTTP status codes that waiting does not change
BROKEN = (OSError, http.client.HTTPException, ValueError)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Remote:
    """A file of a published data set.

    Attributes:
        name: its name at the source.
        size: size in bytes, 0 if the record does not say.
        md5: MD5 of the content, "" if the record does not say.
        urls: sources, in order.
        record: page of the data set.
        member: the one file of a zip archive that is wanted, "" if it is no archive.
    """

    name: str
    size: int
    md5: str
    urls: tuple[str, ...]
    record: str = RECORD
    member: str = ""

    @property
    def local(self) -> str:
        """Name of the file that is made."""
        return self.member.rsplit("/", 1)[-1] or self.name


QM9 = (
    Remote(
        "dsgdb9nsd.xyz.tar.bz2",
        86_144_227,
        "ad1ebd51ee7f5b3a6e32e974e5d54012",
        (
            f"{FIGSHARE}3195389",
            f"{SPRINGER}3195389",
            "https://paddle-org.bj.bcebos.com/paddlematerials/datasets/qm9/dsgdb9nsd.xyz.tar.bz2",
        ),
    ),
    Remote(
        "uncharacterized.txt",
        486_752,
        "a361887bacb427b8a0ce7903d92a53b4",
        (f"{FIGSHARE}3195404", f"{SPRINGER}3195404"),
    ),
)

OGB = "http://ogb-data.stanford.edu/data/lsc/"
OGB_RECORD = "https://ogb.stanford.edu/docs/lsc/pcqm4mv2/"
PCQM4MV2 = (
    Remote(
        "pcqm4m-v2-train.sdf.tar.gz",
        0,
        "fd72bce606e7ddf36c2a832badeec6ab",
        (f"{OGB}pcqm4m-v2-train.sdf.tar.gz",),
        OGB_RECORD,
    ),
    Remote(
        "pcqm4m-v2.zip",
        0,
        "",
        (
            "https://dgl-data.s3-accelerate.amazonaws.com/dataset/OGB-LSC/pcqm4m-v2.zip",
            f"{OGB}pcqm4m-v2.zip",
        ),
        OGB_RECORD,
        member="pcqm4m-v2/raw/data.csv.gz",
    ),
)


def fetch(files: tuple[Remote, ...], to: Path, urls: list[str], progress: Progress) -> list[Path]:
    """Download the files that do not exist yet.

    Args:
        files: files to download.
        to: destination folder.
        urls: base URLs to use instead of the files' own sources; a file is at BASE/NAME.
        progress: called with bytes done, all bytes and the file's name.

    Raises:
        UserError: no source delivered a file; the message says how to place it by hand.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {to}: {error.strerror}") from None
    paths = []
    for file in files:
        path = to / file.local
        if path.exists():
            if not file.member and (fault := _fault(path, file)):
                raise UserError(
                    f"{path} exists, but {fault}: remove it, then the same command downloads it again"
                )
        else:
            sources = [f"{url.rstrip('/')}/{file.name}" for url in urls] or list(file.urls)
            _from_any(file, to / file.name, sources, progress)
            if file.member:
                _take_member(to / file.name, file)
        size = path.stat().st_size
        progress(size, size, file.local)
        paths.append(path)
    return paths


def _from_any(file: Remote, path: Path, sources: list[str], progress: Progress) -> None:
    """Try each source in turn; the next one continues the partial file of the one before."""
    part = path.with_name(path.name + ".part")
    reasons = []
    for url in sources:
        sized, reason = _with_size(url, file)
        reason = reason or _from(url, sized, part, progress)
        if not reason and (fault := _fault(part, sized)):
            part.unlink()
            reason = fault
        if not reason:
            part.replace(path)
            sync_folder(path.parent)
            return
        reasons.append(f"{url}: {reason}")
    known = [f"{file.size} bytes"] if file.size else []
    known += [f"MD5 {file.md5}"] if file.md5 else []
    place = f"its file {file.member} as {path.with_name(file.local)}" if file.member else f"it as {path}"
    about = f" ({', '.join(known)})" if known else ""
    raise UserError(
        f"cannot download {file.name} ({'; '.join(reasons)}): run the same command again to continue, or get "
        f"it by a browser from {file.record} and place {place}{about}"
    )


def _with_size(url: str, file: Remote) -> tuple[Remote, str]:
    """Return (file with the size that its source gives if its record does not, reason of a failure or "")."""
    if file.size:
        return file, ""
    request = urllib.request.Request(url, headers={"User-Agent": "mmgnn_dist", "Accept-Encoding": "identity"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
    except BROKEN as error:
        return file, f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else _cause(error)
    return replace(file, size=size), "" if size else "it does not say its size"


def _take_member(archive: Path, file: Remote) -> None:
    """Unpack the wanted file of an archive beside it, and remove the archive.

    Raises:
        UserError: the archive does not have it.
    """
    path = archive.with_name(file.local)
    try:
        with (
            zipfile.ZipFile(archive) as packed,
            packed.open(file.member) as content,
            atomic_path(path) as part,
            open(part, "wb") as out,
        ):
            shutil.copyfileobj(content, out, CHUNK)
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        raise UserError(
            f"{archive} has no sound file {file.member} ({error}): remove it, then the same command "
            "downloads it again"
        ) from None
    archive.unlink()


def _cause(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    return str(cause) or type(cause).__name__


def _from(url: str, file: Remote, part: Path, progress: Progress) -> str:
    """Download from one source until the file is complete; returns the reason of a failure, or ""."""
    fruitless = 0
    while (size_before := part.stat().st_size if part.exists() else 0) < file.size:
        try:
            _continue(url, file, part, size_before, progress)
            reason = "the connection was closed early"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}"
            if error.code in FINAL:
                return reason
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink()
                return "it has another size"
        except _WrongSizeError as error:
            return str(error)
        except BROKEN as error:
            reason = _cause(error)
        size_after = part.stat().st_size if part.exists() else 0
        fruitless = fruitless + 1 if size_after <= size_before else 0
        if fruitless >= ATTEMPTS:
            return reason
        if size_after < file.size:
            time.sleep(min(BACKOFF * 2**fruitless, LONGEST) * random.uniform(0.5, 1.0))
    if size_before > file.size:
        part.unlink()
        return f"more than {file.size} bytes"
    return ""


class _WrongSizeError(Exception):
    """The source has a different file at this address."""


def _continue(url: str, file: Remote, part: Path, have: int, progress: Progress) -> None:
    """Request the missing bytes once; received bytes are kept even if the request fails."""
    request = urllib.request.Request(url, headers={"User-Agent": "mmgnn_dist", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        whole = answer.status != http.HTTPStatus.PARTIAL_CONTENT  # a server may ignore the Range
        start = 0 if whole else _start(answer.headers.get("Content-Range", ""), file)
        if not whole and start != have:
            raise _WrongSizeError(f"it answers from byte {start} instead of {have}")
        length = answer.headers.get("Content-Length")
        if length is not None and start + int(length) != file.size:
            raise _WrongSizeError(f"it has {start + int(length)} bytes instead of {file.size}")
        with open(part, "wb" if whole else "ab") as out:
            done = start
            while done < file.size and (block := answer.read(min(DOWNLOAD_BLOCK, file.size - done))):
                out.write(block)
                done += len(block)
                progress(done, file.size, file.name)


def _start(content_range: str, file: Remote) -> int:
    """The first byte of a partial answer, from `bytes 5-99/100`."""
    span, _, total = content_range.removeprefix("bytes ").partition("/")
    if total not in ("*", str(file.size)):
        raise _WrongSizeError(f"it has {total or 'unknown'} bytes instead of {file.size}")
    return int(span.partition("-")[0])


def _fault(path: Path, file: Remote) -> str:
    """How a file differs from the published one, or ""."""
    size = path.stat().st_size
    if file.size and size != file.size:
        return f"it has {size} bytes instead of {file.size}"
    if not file.md5:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as content:
        while block := content.read(CHUNK):
            digest.update(block)
    return "" if digest.hexdigest() == file.md5 else "its MD5 is not that of the published file"
