"""Checks of Slurm's configuration: version, requeueing, accounting, nodes that are up; and of a profile."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from mmgnn_dist.cluster.doctor.line import Line, fail, ok, warn
from mmgnn_dist.cluster.slurm import queries as slurm
from mmgnn_dist.cluster.slurm.profile import Profile
from mmgnn_dist.cluster.slurm.profile_check import profile_faults
from mmgnn_dist.cluster.slurm.script import JobLink, interpreter, parameters, script_text
from mmgnn_dist.cluster.slurm.site import restart_mode, site_settings
from mmgnn_dist.errors import UserError

OLD_SLURM = (21, 8)
SHORT_KILL = 5  # seconds


def check_settings() -> list[Line]:
    """Run all checks of Slurm's configuration; a machine without Slurm passes."""
    if not slurm.here():
        return [ok("Slurm", "none on this machine: runs start by mmgnn train")]
    try:
        settings = site_settings()
    except UserError as error:
        cure = (
            "see that SLURM_CONF names this cluster's slurm.conf and that its controller is up: scontrol ping"
        )
        return [warn("Slurm", str(error), cure)]
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
            "none is needed for mmgnn submit, which sends jobs that follow each other (restart: successor); "
            "put #SBATCH --requeue into your own scripts"
        )
        lines.append(
            warn("requeue", "JobRequeue=0: jobs do not go back to the queue unless they ask to", cure)
        )
    if settings.get("PreemptType") != "preempt/none" and "CANCEL" in settings.get("PreemptMode", ""):
        cure = (
            "none is needed for mmgnn submit, which sends jobs that follow each other (restart: successor); "
            "submit jobs of your own again, they continue"
        )
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


def check_profile_here(profile: Profile, path: Path) -> list[Line]:
    """Compare a profile with what this cluster has, and let Slurm test a job of it; nothing is submitted.

    Raises:
        UserError: if Slurm does not answer.
    """
    what = "profile"
    if faults := profile_faults(profile):
        return [fail(what, fault, f"change it in {path}") for fault in faults]
    mode, why = restart_mode(profile)
    asked = parameters(
        profile.model_copy(update={"restart": mode}), JobLink("doctor"), [Path("run")], Path(), []
    )
    text = script_text(asked, Path("slurm"), interpreter(profile, sys.executable, []))
    try:
        verdict = slurm.check_script(text, path)
    except UserError as error:
        return [fail(what, str(error), f"change it in {path}, or ask the site")]
    jobs = f"in {profile.max_restarts} jobs that follow" if mode == "successor" else "by a requeue"
    return [ok(what, f"{path}: {verdict}"), ok("restart", f"a run starts again {jobs}: {why}")]
