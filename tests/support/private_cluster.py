"""The dev cluster of a test run: whether there can be one, its commands, what is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

DEVCLUSTER = Path(__file__).parents[2] / "slurm" / "devcluster" / "devcluster.py"
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "slurmstepd", "srun", "unshare")


@dataclass
class Cluster:
    """The running dev cluster."""

    folder: Path

    def do(self, *words: str) -> None:
        """Run a command of the dev cluster."""
        subprocess.run([sys.executable, DEVCLUSTER, *words, "--dir", str(self.folder)], check=True)


def hindrance(folder: Path) -> str | None:
    """Why no dev cluster can be brought up here, in its own words."""
    sys.path.insert(0, str(DEVCLUSTER.parent))
    try:
        import devcluster
    finally:
        sys.path.pop(0)
    try:
        devcluster.Cluster(folder, 3).check()
    except devcluster.Fault as fault:
        return str(fault)
    return None


def left_over(folder: Path) -> list[str]:
    """Daemons, steps and ranks of the cluster of a folder that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text().strip()
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        ours = name in DAEMONS or b"mmgnn_dist.train.run" in about or b"SLURM_JOB_ID" in about
        if ours and os.fsencode(folder) in about:
            found.append(f"{process.name} {name}")
    return found
