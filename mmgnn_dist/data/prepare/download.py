"""Download of QM9: resumable, from several sources in turn, and verified before use.

A file is written as `NAME.part`, which the same command continues by a Range request. It gets its final name
when its size and MD5 match the figshare record. On a machine without internet the error says which file to
put where.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import CHUNK, sync_folder

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
        name: local file name.
        size: size in bytes.
        md5: MD5 of the content.
        urls: sources, in order.
    """

    name: str
    size: int
    md5: str
    urls: tuple[str, ...]


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
        path = to / file.name
        if path.exists():
            if fault := _fault(path, file):
                raise UserError(
                    f"{path} exists, but {fault}: remove it, then the same command downloads it again"
                )
        else:
            sources = [f"{url.rstrip('/')}/{file.name}" for url in urls] or list(file.urls)
            _from_any(file, path, sources, progress)
        progress(file.size, file.size, file.name)
        paths.append(path)
    return paths


def _from_any(file: Remote, path: Path, sources: list[str], progress: Progress) -> None:
    """Try each source in turn; the next one continues the partial file of the one before."""
    part = path.with_name(path.name + ".part")
    reasons = []
    for url in sources:
        reason = _from(url, file, part, progress)
        if not reason and (fault := _fault(part, file)):
            part.unlink()
            reason = fault
        if not reason:
            part.replace(path)
            sync_folder(path.parent)
            return
        reasons.append(f"{url}: {reason}")
    raise UserError(
        f"cannot download {file.name} ({'; '.join(reasons)}): run the same command again to continue, or get "
        f"it by a browser from {RECORD} and place it as {path} ({file.size} bytes, MD5 {file.md5})"
    )


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
            cause = getattr(error, "reason", error)
            reason = str(cause) or type(cause).__name__
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
    if size != file.size:
        return f"it has {size} bytes instead of {file.size}"
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as content:
        while block := content.read(CHUNK):
            digest.update(block)
    return "" if digest.hexdigest() == file.md5 else "its MD5 is not that of the published file"
