"""A dev cluster with a small disk, a folder for temporary files, and stand-ins for programs of Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from private_cluster import Cluster

NODES = ("node1", "node2", "node3")
PROGRAMS = ("scontrol", "squeue", "sbatch", "sacct", "sinfo")
DISK = "192M"
ROLES: dict[str, bytes] = {
    "rank": b"mmgnn_dist.train.run\0",
    "supervisor": b"submitit.core._submit",
    "launcher": b"mmgnn_dist.train.launch",
    "ray node": b"mmgnn_dist.cluster.ray.node",
    "driver": b"mmgnn_dist.cli\0",
    "batch shell": b"/slurm_script",
    "ray worker": b"ray::",
}
NAMES = {
    "wandb": "wandb-core",
    "raylet": "raylet",
    "gcs": "gcs_server",
    "srun": "srun",
    "stepd": "slurmstepd",
}
STAND_IN = """#!/bin/sh
if [ -e {flag}.fails ]; then
  echo "{name}: error: Unable to contact slurm controller (connect failure)" >&2; exit 1
fi
while [ -e {flag}.hangs ]; do sleep 0.2; done
exec {real} "$@"
"""


@dataclass
class Site:
    """One worker's machine: everything is below one folder, whose path is short.

    Attributes:
        folder: the folder; `disk`, `tmp`, `bin` and the cluster's `slurm` lie in it.
        real: each program of Slurm, past the stand-ins.
    """

    folder: Path
    real: dict[str, str] = field(default_factory=dict)

    @property
    def disk(self) -> Path:
        """A file system of its own, for the outputs of jobs."""
        return self.folder / "disk"

    @property
    def tmp(self) -> Path:
        """TMPDIR of all jobs; it is empty before and after each."""
        return self.folder / "t"

    @property
    def conf(self) -> Path:
        """Configuration of the cluster."""
        return self.folder / "slurm" / "slurm.conf"

    @property
    def cluster(self) -> Cluster:
        """The dev cluster."""
        return Cluster(self.folder / "slurm")

    def up(self) -> None:
        """Mount the disk, start the cluster, and have this process and its children use it."""
        self.disk.mkdir(parents=True)
        options = f"size={DISK},mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "chaos", self.disk], check=True)
        self.cluster.do("up")
        os.environ.update(self.environment())

    def down(self) -> None:
        """End the cluster and unmount the disk."""
        self.cluster.do("down")
        subprocess.run(["umount", "-l", self.disk], check=False)

    def environment(self) -> dict[str, str]:
        """Write the stand-ins; returns the variables of commands and jobs that use them."""
        for path in (self.disk, self.tmp, self.folder / "bin"):
            path.mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            self.real[name] = shutil.which(name) or name
            text = STAND_IN.format(name=name, real=self.real[name], flag=self.folder / "bin" / f".{name}")
            (self.folder / "bin" / name).write_text(text)
            (self.folder / "bin" / name).chmod(0o755)
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        used = {"SLURM_CONF": str(self.conf), "TMPDIR": str(self.tmp), "PATH": path}
        return used | {"GLOO_SOCKET_IFNAME": "lo"}  # all nodes are this machine

    def ask(self, name: str, *words: str, check: bool = True) -> str:
        """Run one of Slurm's programs, past the stand-ins; slurmctld may have to start first."""
        for left in reversed(range(5)):
            command = [self.real.get(name, name), *words]
            try:
                done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
                said = done.stderr.strip()
                if done.returncode == 0 or not check:
                    return done.stdout
            except subprocess.TimeoutExpired:  # slurmctld stands still
                said = "no answer"
            if left:
                time.sleep(2)
        raise RuntimeError(f"{' '.join(command)}: {said}")

    def queue(self) -> dict[str, str]:
        """State and reason of each job that has not ended, by its number."""
        lines = self.ask("squeue", "-h", "-r", "-o", "%i|%T %r").splitlines()
        return dict(line.split("|", 1) for line in lines if "|" in line)

    def processes(self, role: str) -> list[int]:
        """The processes of a role that jobs of this cluster have."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                name = (folder / "comm").read_text().strip()
                words, about = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
            except OSError:
                continue
            if f"SLURM_CONF={self.conf}\0".encode() not in about:
                continue
            if role != "stepd" and b"\0SLURM_JOB_ID=" not in b"\0" + about:
                continue
            if name == NAMES[role] if role in NAMES else ROLES[role] in words and name != "srun":
                found.append(int(folder.name))
        return sorted(found)

    def daemon(self, name: str) -> int:
        """The process of slurmctld or of the slurmd of a node, 0 without one."""
        if name == "slurmctld":
            file = self.folder / "slurm" / "slurmctld.pid"
            return int(file.read_text()) if file.is_file() else 0
        said = subprocess.run(
            ["pgrep", "-xf", f"slurmd -N {name} -f {self.conf}"], check=False, capture_output=True, text=True
        ).stdout.split()
        return int(said[0]) if said else 0

    def start(self, name: str) -> None:
        """Start slurmctld or a node, or its slurmd alone, if it does not run."""
        if name != "slurmctld":
            if not self.daemon(name):
                self.cluster.do("start", name)
            return
        pid = self.daemon(name)
        if not pid or not Path(f"/proc/{pid}").exists():
            subprocess.run(["slurmctld", "-f", self.conf], check=True, capture_output=True)

    def inside(self, node: str, *words: str) -> int:
        """Run a command in the mount namespace of a node; returns its exit code, 1 if the node is off."""
        try:
            outer = int((self.folder / "slurm" / f"{node}.pid").read_text())
            inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
        except (OSError, IndexError):
            return 1
        command = ["nsenter", f"--target={inner}", "--pid", "--mount", *words]
        return subprocess.run(command, check=False, capture_output=True).returncode

    def calm(self) -> None:
        """Bring every part back to its usual state; jobs that are left end."""
        for path in (self.folder / "bin").glob(".*"):
            path.unlink()
        self.start("slurmctld")
        for name in ("slurmctld", *NODES):
            if pid := self.daemon(name):
                os.kill(pid, signal.SIGCONT)
        for node in NODES:
            self.start(node)
        if jobs := self.queue():
            self.ask("scancel", *jobs, check=False)
        self.until(lambda: not self.queue(), 120)
        for node in NODES:
            self.ask("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self.until(
            lambda: self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * len(NODES),
            120,
        )

    def until(self, ready: Callable[[], object], seconds: float) -> bool:
        """Wait for a condition; returns whether it came."""
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True
