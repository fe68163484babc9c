"""Addresses on which processes listen, as `ss -ltnp` shows them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def listeners(*marks: str) -> dict[str, set[str]]:
    """For each address the command lines that listen there and have all marks in their environment."""
    found: dict[str, set[str]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            variables = Path(f"/proc/{process.pid}/environ").read_text(errors="replace")
            if not all(mark in variables for mark in marks):
                continue
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    address = connection.laddr.ip.removeprefix("::ffff:")
                    found.setdefault(address, set()).add(" ".join(process.cmdline()))
    return found


def open_to_others(folder: Path) -> list[Path]:
    """What group or others may write to in and below a folder."""
    paths = [folder, *folder.rglob("*")]
    return [path for path in paths if not path.is_symlink() and path.lstat().st_mode & 0o022]
