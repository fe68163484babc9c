"""Checks of Slurm's configuration: version, requeueing, accounting, nodes that are up."""

from __future__ import annotations

import re
import shutil

from mmgnn_dist.cluster.doctor.line import Line, fail, ok, warn
from mmgnn_dist.cluster.slurm import queries as slurm
from mmgnn_dist.errors import UserError

OLD_SLURM = (21, 8)
SHORT_KILL = 5  # seconds


def check_settings() -> list[Line]:
    """Run all checks of Slurm's configuration; a machine without Slurm passes."""
    if not slurm.here():
        return [ok("Slurm", "none on this machine: runs start by mmgnn train")]
    try:
        shown = slurm.must("scontrol", "show", "config")
    except UserError as error:
        cure = (
            "see that SLURM_CONF names this cluster's slurm.conf and that its controller is up: scontrol ping"
        )
        return [warn("Slurm", str(error), cure)]
    pairs = (line.partition("=") for line in shown.splitlines())
    settings = {key.strip(): value.strip() for key, _, value in pairs}
    return [*_version(settings), *_requeue(settings), *_accounting(settings), *_nodes()]


def _version(settings: dict[str, str]) -> list[Line]:
    text = settings.get("SLURM_VERSION", "")
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if version and version < OLD_SLURM:
        return [
            warn(
                "Slurm",
                text,
                f"ask for {OLD_SLURM[0]}.{OLD_SLURM[1]:02d} or later; older ones were never tried",
            )
        ]
    return [ok("Slurm", f"{text}, cluster {settings.get('ClusterName')}")]


def _requeue(settings: dict[str, str]) -> list[Line]:
    lines = []
    if settings.get("JobRequeue") == "0":
        cure = (
            "jobs of mmgnn submit ask for --requeue by themselves; put #SBATCH --requeue into your own, or "
            "have the site set JobRequeue=1"
        )
        lines.append(
            warn("requeue", "JobRequeue=0: jobs do not go back to the queue unless they ask to", cure)
        )
    if settings.get("PreemptType") != "preempt/none" and "CANCEL" in settings.get("PreemptMode", ""):
        cure = "submit a preempted run again, it continues; or use a partition with PreemptMode=REQUEUE"
        lines.append(warn("requeue", "PreemptMode=CANCEL: preempted jobs end", cure))
    kill_wait = re.match(r"\d+", settings.get("KillWait", ""))
    if kill_wait and int(kill_wait[0]) < SHORT_KILL:
        cure = f"have the site set KillWait to {SHORT_KILL} s or more, or raise signal_lead in the profile"
        lines.append(
            warn("requeue", f"KillWait={kill_wait[0]} s is short for a checkpoint after SIGTERM", cure)
        )
    return lines or [ok("requeue", f"JobRequeue=1, PreemptMode={settings.get('PreemptMode')}")]


def _accounting(settings: dict[str, str]) -> list[Line]:
    kind = settings.get("AccountingStorageType", "")
    if kind in ("", "(null)", "accounting_storage/none") or shutil.which("sacct") is None:
        cure = "mmgnn status reads run directories too; sacct needs slurmdbd on the site"
        age = settings.get("MinJobAge", "some time")
        return [warn("accounting", f"none: Slurm forgets jobs after {age}", cure)]
    return [ok("accounting", kind)]


def _nodes() -> list[Line]:
    shown = slurm.must("sinfo", "-h", "-o", "%R %a %D %T").splitlines()
    up = sorted({line.split()[0] for line in shown if line.split()[1] == "up"})
    usable = [line for line in shown if re.search(r"(idle|mixed|allocated|completing)$", line)]
    if not usable:
        return [fail("nodes", "no node is up", "ask the site, or see sinfo -R for reasons")]
    return [ok("nodes", f"partitions {', '.join(up)}")]
