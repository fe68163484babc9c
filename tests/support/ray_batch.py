"""Submit the shipped script of Ray in an allocation."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from processes_left import MARK

SCRIPT = Path(__file__).parents[2] / "slurm" / "ray.sbatch"
LIMIT = 300.0


def batch(log: Path, *words: object, wait: bool = True, code: int = 0, gpus: int = 0, nodes: int = 2) -> str:
    """Submit the shipped script with a command; returns its job."""
    done = subprocess.run(
        [
            "sbatch",
            "--parsable",
            *(["--wait"] if wait else []),
            "--cpus-per-task=1",
            f"--nodes={nodes}",
            f"--output={log}",
            *([f"--gpus-per-node={gpus}"] if gpus else []),
            str(SCRIPT),
            *map(str, words),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=os.environ | {MARK: log.stem, "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert done.returncode == code, log.read_text() if log.exists() else done.stderr
    return done.stdout.strip()
