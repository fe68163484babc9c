"""Queries to Slurm: its programs, its partitions, whether it accepts a script."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from mmgnn_dist.cluster.slurm.profile import Profile
from mmgnn_dist.errors import UserError, nearest

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


def check_profile(profile: Profile, path: Path) -> None:
    """Refuse a profile that asks for what this cluster does not have.

    Raises:
        UserError: if the partition, GPUs or nodes do not exist, or the time is over the limit.
    """
    rows = [line.split("|") for line in must("sinfo", "-h", "-o", "%R|%G|%D|%l").splitlines()]
    names = list(dict.fromkeys(row[0] for row in rows))
    chosen = profile.partition
    if chosen and chosen not in names:
        raise UserError(
            f"{path}: partition={chosen} is unknown{nearest(chosen, names)}; "
            f"this cluster has {', '.join(names)}"
        )
    rows = [row for row in rows if row[0] == chosen] if chosen else rows
    where = f"partition {chosen}" if chosen else "this cluster"
    if profile.gpus_per_node:
        kinds = {kind: int(count) for row in rows for kind, count in _gpus(row[1])}
        wanted = profile.gpu_type
        if wanted and wanted not in kinds:
            raise UserError(f"{path}: gpu_type={wanted}: {where} has {', '.join(sorted(kinds)) or 'no GPUs'}")
        most = kinds[wanted] if wanted else max(kinds.values(), default=0)
        if profile.gpus_per_node > most:
            raise UserError(
                f"{path}: gpus_per_node={profile.gpus_per_node}, but a node of {where} has {most}: ask for "
                "more nodes instead"
            )
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes[row[0]] += int(row[2])
    if profile.nodes > max(sizes.values(), default=0):
        raise UserError(
            f"{path}: nodes={profile.nodes}, but {where} has {max(sizes.values(), default=0)}: ask for fewer"
        )
    limits = [_minutes(row[3]) for row in rows]
    longest = None if None in limits else max((limit for limit in limits if limit is not None), default=0)
    if longest is not None and profile.minutes > longest:
        text = next(row[3] for row in rows if _minutes(row[3]) == longest)
        raise UserError(
            f"{path}: time={profile.time} is over the limit of {where}, which is {text}: lower it"
        )


def _gpus(text: str) -> list[tuple[str, str]]:
    """Split `gpu:a100:4(S:0),gpu:v100:2` into pairs of type and count; GPUs without a type are called gpu."""
    return [(kind or "gpu", count) for kind, count in re.findall(r"gpu:(?:([^:,(]+):)?(\d+)", text)]


def _minutes(text: str) -> int | None:
    """Convert a time limit of sinfo to minutes; None if there is no limit."""
    if text in ("infinite", "n/a"):
        return None
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    hours, minutes = parts[-3] if len(parts) > 2 else 0, parts[-2] if len(parts) > 1 else 0
    return (int(days or 0) * 24 + hours) * 60 + minutes


def check_script(text: str, path: Path) -> str:
    """Have sbatch test a script without submitting it; returns its message on when the job would start.

    Raises:
        UserError: if Slurm refuses the script; holds Slurm's reason.
    """
    result = ask("sbatch", "--test-only", stdin=text)
    if result.returncode != 0:
        raise UserError(f"{path}: Slurm refuses the job: {reason_of(result.stderr)}")
    return reason_of(result.stderr)
