"""Queries to Slurm: its programs, and whether it accepts a script."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from mmgnn_dist.errors import UserError

TRY = "use a login node of the cluster, or try on your machine: slurm/README.md, devcluster"
ANSWER = 60  # seconds within which Slurm must answer


class NoAnswer(UserError):
    """Slurm's controller does not answer, so nothing is known."""


def here() -> bool:
    """Return whether this machine has Slurm's programs."""
    return all(shutil.which(name) for name in ("sbatch", "scontrol", "squeue"))


def ask(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's programs.

    Raises:
        NoAnswer: if it does not end in time.
        UserError: if the program is missing.
    """
    if shutil.which(words[0]) is None:
        raise UserError(f"no {words[0]} on this machine: {TRY}")
    try:
        return subprocess.run(words, check=False, capture_output=True, text=True, timeout=ANSWER, input=stdin)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{words[0]} gave no answer in {ANSWER} s: is Slurm's controller up?") from None


def must(*words: str) -> str:
    """Run one of Slurm's programs and return its output.

    Raises:
        UserError: if the program fails; holds its own message.
    """
    result = ask(*words)
    if result.returncode != 0:
        raise UserError(f"{' '.join(words)}: {reason_of(result.stderr)}")
    return result.stdout


def reason_of(output: str) -> str:
    """Return the last line that one of Slurm's programs printed, without the words before its reason."""
    lines = output.strip().splitlines()
    prefix = r"^([a-z]+: )?(error: |fatal: |allocation failure: )?"
    return re.sub(prefix, "", lines[-1]) if lines else "no reason given"


def check_script(text: str, path: Path) -> str:
    """Have sbatch test a script without submitting it; returns its message on when the job would start.

    Raises:
        UserError: if Slurm refuses the script; holds Slurm's reason.
    """
    result = ask("sbatch", "--test-only", stdin=text)
    if result.returncode != 0:
        raise UserError(f"{path}: Slurm refuses the job: {reason_of(result.stderr)}")
    return reason_of(result.stderr)
