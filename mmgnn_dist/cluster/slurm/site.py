"""How a site treats jobs that end early, as Slurm says: whether a job can go back to the queue there.

Where preempted jobs are cancelled (`PreemptMode=CANCEL`) or jobs are not requeued (`JobRequeue=0`), a run
continues in jobs that were submitted with it and depend on each other's end: its successors.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from mmgnn_dist.cluster.slurm.profile import Profile
from mmgnn_dist.cluster.slurm.queries import NoAnswer, ask, must, reason_of


class RestartMode(NamedTuple):
    """How a run starts again, and why so."""

    mode: Literal["requeue", "successor"]
    why: str


def site_settings() -> dict[str, str]:
    """Return Slurm's configuration.

    Raises:
        NoAnswer: if Slurm does not answer.
    """
    result = ask("scontrol", "show", "config")
    if result.returncode != 0:
        raise NoAnswer(
            f"Slurm does not answer ({reason_of(result.stderr)}): the same command again when it does"
        )
    pairs = (line.partition("=") for line in result.stdout.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def restart_mode(profile: Profile) -> RestartMode:
    """Return how runs of a profile start again at this site; the profile may say so itself.

    Raises:
        UserError: if Slurm does not answer.
    """
    if profile.restart != "auto":
        return RestartMode(profile.restart, "the profile says so")
    settings = site_settings()
    if settings.get("JobRequeue") == "0":
        return RestartMode("successor", "JobRequeue=0 at this site")
    kind = settings.get("PreemptType", "")
    if kind == "preempt/none":
        return RestartMode("requeue", "jobs go back to the queue at this site")
    modes = {"PreemptMode": settings.get("PreemptMode", "")}
    if kind == "preempt/partition_prio" and (own := _partition_mode(profile.partition)):
        modes = {f"PreemptMode of partition {profile.partition or 'by default'}": own}
    if kind == "preempt/qos" and (own := _qos_mode(profile.qos or "normal")):
        modes = {f"PreemptMode of QoS {profile.qos or 'normal'}": own}
    for name, mode in modes.items():
        if "CANCEL" in mode.upper():
            return RestartMode("successor", f"{name} is CANCEL")
    return RestartMode("requeue", "jobs go back to the queue at this site")


def _partition_mode(name: str | None) -> str:
    """Return the PreemptMode of a partition (None: the default one); "" if it has none of its own."""
    for line in must("scontrol", "-o", "show", "partition", *([name] if name else [])).splitlines():
        if name or " Default=YES " in f" {line} ":
            match = re.search(r"\bPreemptMode=(\S+)", line)
            return match[1] if match else ""
    return ""


def _qos_mode(name: str) -> str:
    """Return the PreemptMode of a QoS; "" where it is that of the cluster, or accounting does not say."""
    result = ask("sacctmgr", "-n", "-P", "show", "qos", name, "format=PreemptMode")
    mode = result.stdout.strip() if result.returncode == 0 else ""
    return "" if mode == "cluster" else mode
