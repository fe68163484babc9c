"""A frozen copy of the package for queued jobs, so that later edits of the checkout do not affect them.

The copy's folder is named by a hash of its content, so that submissions of the same code share one copy.
Installed packages (torch and the rest) are not copied: the jobs use the environment that submits.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import mmgnn_dist
from mmgnn_dist.files import sha256


def take_snapshot(folder: Path) -> Path:
    """Copy the package into a folder below `folder`; returns the folder to put on PYTHONPATH."""
    source = Path(mmgnn_dist.__file__).parent
    files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    listing = "\n".join(f"{path.relative_to(source)} {sha256(path)}" for path in files)
    final = folder / hashlib.sha256(listing.encode()).hexdigest()[:12]
    if not final.is_dir():
        part = folder / f".{final.name}.{os.getpid()}.part"
        for path in files:
            target = part / "mmgnn_dist" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        try:
            part.rename(final)
        except OSError:  # another submission was first
            shutil.rmtree(part)
    return final
