"""Comparison of a profile with what a cluster has: partitions, GPUs, nodes, accounts, licences.

Each check returns one line for each fault, with what the cluster has instead. What only Slurm itself can
decide (limits of an association, reservations) is left to `sbatch --test-only`.
"""

from __future__ import annotations

import getpass
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mmgnn_dist.cluster.slurm.profile import GPUS, Profile
from mmgnn_dist.cluster.slurm.queries import ask, must, reason_of
from mmgnn_dist.errors import UserError, nearest

UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}  # MB


class _Row(NamedTuple):
    """Nodes of one kind in a partition, as sinfo groups them."""

    partition: str
    gres: str
    nodes: int
    limit: str
    memory: int  # MB
    features: tuple[str, ...]


def check_profile(profile: Profile, path: Path) -> None:
    """Refuse a profile that asks for what this cluster does not have.

    Raises:
        UserError: if it does; holds the first fault.
    """
    for fault in profile_faults(profile):
        raise UserError(f"{path}: {fault}")


def profile_faults(profile: Profile) -> list[str]:
    """Return what a profile asks for and this cluster does not have, one line for each fault.

    Raises:
        UserError: if Slurm does not answer.
    """
    lines = must("sinfo", "-h", "-o", "%R|%G|%D|%l|%m|%f").splitlines()
    rows = [_row(line) for line in lines]
    names = list(dict.fromkeys(row.partition for row in rows))
    chosen = profile.partition
    if chosen and chosen not in names:
        known = f"this cluster has {', '.join(names)}"
        return [f"partition={chosen} is unknown{nearest(chosen, names)}; {known}", *_account_faults(profile)]
    rows = [row for row in rows if row.partition == chosen] if chosen else rows
    where = f"partition {chosen}" if chosen else "this cluster"
    found = [*_gpu_faults(profile, rows, where), *_other_gres(profile, rows, where)]
    found += [*_node_faults(profile, rows, where), *_time_faults(profile, rows, where)]
    return [*found, *_account_faults(profile), *_license_faults(profile)]


def _row(line: str) -> _Row:
    partition, gres, nodes, limit, memory, features = line.split("|")
    kinds = () if features == "(null)" else tuple(features.split(","))
    return _Row(partition, gres, int(nodes), limit, int(memory.rstrip("+")), kinds)


def _gpu_faults(profile: Profile, rows: list[_Row], where: str) -> list[str]:
    if not profile.gpus_per_node:
        return []
    kinds: dict[str, int] = {}
    for row in rows:
        for kind, count in _gpus(row.gres):
            kinds[kind] = max(kinds.get(kind, 0), int(count))
    wanted = profile.gpu_type
    if wanted and wanted not in kinds:
        return [f"gpu_type={wanted}: {where} has {', '.join(sorted(kinds)) or 'no GPUs'}"]
    most = kinds[wanted] if wanted else max(kinds.values(), default=0)
    if profile.gpus_per_node > most:
        key = f"gres={profile.gres}" if profile.gres else f"gpus_per_node={profile.gpus_per_node}"
        return [f"{key}, but a node of {where} has {most}: ask for more nodes instead"]
    return []


def _other_gres(profile: Profile, rows: list[_Row], where: str) -> list[str]:
    """Check resources of `gres` that are no GPUs, by name."""
    known = {part.split(":")[0] for row in rows for part in row.gres.split(",")} - {"(null)"}
    asked = [part.split(":")[0] for part in (profile.gres or "").split(",") if part]
    return [
        f"gres={profile.gres}: {where} has no {name}{nearest(name, known)}, only "
        f"{', '.join(sorted(known)) or 'none'}"
        for name in asked
        if name != "gpu" and name not in known
    ]


def _gpus(text: str) -> list[tuple[str, str]]:
    """Split `gpu:a100:4(S:0),gpu:v100:2` into pairs of type and count; GPUs without a type are called gpu."""
    return [(kind or "gpu", count) for kind, count in GPUS.findall(text)]


def _node_faults(profile: Profile, rows: list[_Row], where: str) -> list[str]:
    found = []
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes[row.partition] += row.nodes
    most = max(sizes.values(), default=0)
    if profile.nodes > most:
        found.append(f"nodes={profile.nodes}, but {where} has {most}: ask for fewer")
    memory = max((row.memory for row in rows), default=0)
    per_gpu = profile.mem_per_gpu
    asked = (profile.memory_gb or 0) * 1024
    if per_gpu:
        asked = int(int(per_gpu[:-1]) * UNITS[per_gpu[-1]] * profile.gpus_per_node)
    if asked > memory:
        key = f"mem_per_gpu={per_gpu}" if per_gpu else f"memory_gb={profile.memory_gb}"
        found.append(f"{key} is {asked >> 10} GB a node, and a node of {where} has {memory >> 10}")
    features = {feature for row in rows for feature in row.features}
    for word in re.findall(r"[A-Za-z_][\w.-]*", profile.constraint or ""):
        if word not in features:
            known = ", ".join(sorted(features)) or "none"
            found.append(f"constraint={profile.constraint}: no feature {word}, {where} has {known}")
    for key, value in (("nodelist", profile.nodelist), ("exclude", profile.exclude)):
        if value:
            found += _unknown_nodes(key, value, profile.partition, where)
    return found


def _unknown_nodes(key: str, value: str, partition: str | None, where: str) -> list[str]:
    expanded = ask("scontrol", "show", "hostnames", value)
    if expanded.returncode != 0:
        return [f"{key}={value} is no list of nodes ({reason_of(expanded.stderr)}): write node[1-4],node7"]
    shown = must("sinfo", "-h", "-N", "-o", "%N", *([f"-p{partition}"] if partition else [])).split()
    known = list(dict.fromkeys(shown))
    missing = [name for name in expanded.stdout.split() if name not in known]
    if not missing:
        return []
    few = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    return [f"{key}={value}: {where} has no {missing[0]}{nearest(missing[0], known)}, only {few}"]


def _time_faults(profile: Profile, rows: list[_Row], where: str) -> list[str]:
    limits = {row.limit: _minutes(row.limit) for row in rows}
    finite = {text: minutes for text, minutes in limits.items() if minutes is not None}
    if len(finite) < len(limits) or not finite or profile.minutes <= max(finite.values()):
        return []
    longest = max(finite, key=lambda text: finite[text])
    return [f"time={profile.time} is over the limit of {where}, which is {longest}: lower it"]


def _minutes(text: str) -> int | None:
    """Convert a time limit of sinfo to minutes; None if there is no limit."""
    if text in ("infinite", "n/a"):
        return None
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    hours, minutes = parts[-3] if len(parts) > 2 else 0, parts[-2] if len(parts) > 1 else 0
    return (int(days or 0) * 24 + hours) * 60 + minutes


def _account_faults(profile: Profile) -> list[str]:
    """Check account and QoS against the associations of this user, where accounting has them."""
    if not (profile.account or profile.qos) or shutil.which("sacctmgr") is None:
        return []
    user = f"user={getpass.getuser()}"
    result = ask("sacctmgr", "-n", "-P", "show", "assoc", user, "format=Account,QOS")
    rows = [line.split("|") for line in result.stdout.splitlines() if "|" in line]
    if result.returncode != 0 or not rows:  # no accounting, or no associations: Slurm decides
        return []
    accounts = list(dict.fromkeys(row[0] for row in rows))
    if profile.account and profile.account not in accounts:
        close = nearest(profile.account, accounts)
        return [f"account={profile.account} is none of yours{close}; you have {', '.join(accounts)}"]
    mine = [row for row in rows if profile.account in (None, row[0])]
    qos = list(dict.fromkeys(name for row in mine for name in row[1].split(",") if name))
    if profile.qos and qos and profile.qos not in qos:
        whose = f"of account {profile.account}" if profile.account else "of yours"
        return [f"qos={profile.qos} is none {whose}{nearest(profile.qos, qos)}; there are {', '.join(qos)}"]
    return []


def _license_faults(profile: Profile) -> list[str]:
    if not profile.licenses:
        return []
    shown = must("scontrol", "-o", "show", "licenses")
    totals = dict(re.findall(r"LicenseName=(\S+).*?\bTotal=(\d+)", shown))
    known = ", ".join(f"{name}:{total}" for name, total in totals.items()) or "none"
    found = []
    for part in re.split("[,;]", profile.licenses):
        name, _, count = part.partition(":")
        if int(count or 1) > int(totals.get(name, 0)):
            found.append(f"licenses={profile.licenses}: this cluster has {known}, not {part}")
    return found
