#!/usr/bin/env python3
"""A real, private Slurm on one Linux machine: `devcluster.py up | down | status | kill NODE | start NODE`.

    munged + mariadbd + slurmdbd + slurmctld + one slurmd a node, all below one folder and on ports of its own

Every node is a process namespace: killing it ends slurmd and all its jobs at once, like a power cut.
The cluster needs root and Debian's packages (PACKAGES). It never touches another Slurm on the machine: it
keeps configuration, sockets, keys and database in its own folder and uses a block of free ports (BLOCKS), so
that several dev clusters can run side by side. Only root can use the database, through a socket that nobody
else can reach. This script uses only the standard library: any python3 runs it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from settings import ACCOUNTS, BLOCKS, PORTS, QOS, slurm_conf, slurmdbd_conf

PACKAGES = "slurm-wlm slurmdbd munge mariadb-server"
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "mariadb-install-db", "unshare")
PATIENCE = 120.0  # seconds that a daemon may take to answer, or to end
SPACES = ("--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
LOCK = Path("/run/mmgnn-devcluster.lock")  # only one cluster at a time chooses its ports
PATH_LIMIT = 100  # bytes that the path of a socket may have


class Fault(Exception):
    """An error that prevents a command; its message is one line."""


class Cluster:
    """The cluster of one folder.

    Args:
        folder: folder of all its files.
        nodes: number of nodes.

    Raises:
        Fault: if others can write the folder: root runs, and kills, what the files in it name.
    """

    def __init__(self, folder: Path, nodes: int) -> None:
        _see_that_it_is_ours(folder)
        self.folder = folder.resolve()
        self.names = [f"node{k}" for k in range(1, nodes + 1)]
        self.conf = self.folder / "slurm.conf"
        self.socket = self.folder / "munge" / "munge.socket"
        self.environment = os.environ | {"SLURM_CONF": str(self.conf)}

    def up(self) -> None:
        """Start every daemon and wait until all nodes are idle; if one fails, end those that were started.

        Raises:
            Fault: if a cluster cannot run here, or a daemon does not answer.
        """
        self.check()
        try:
            with _alone():
                self._up(_free_ports(self.names))
        except BaseException:
            self.stop()
            raise

    def _up(self, ports: dict[str, int]) -> None:
        os.umask(0o022)  # others may read the configuration, but write nothing
        self.folder.mkdir(parents=True, exist_ok=True)
        _see_that_it_is_ours(self.folder)  # in case somebody else has just made it
        self.folder.chmod(0o755)
        for name in ("munge", "state", "log"):
            (self.folder / name).mkdir(exist_ok=True)
        self._munge()
        host = socket.gethostname().split(".")[0]
        self.conf.write_text(slurm_conf(self.folder, host, self.names, ports))
        (self.folder / "gres.conf").write_text(
            f"NodeName=node[1-{len(self.names)}] Name=gpu Type=a100 File=/dev/tty[0-3]\n"
        )
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self._accounting(host, ports)
        self._run("slurmctld", "-f", self.conf)
        for name in self.names:
            self.start(name)
        self._wait("the nodes", lambda: self.states() == dict.fromkeys(self.names, "idle"))

    def down(self) -> None:
        """End every daemon and remove the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End every daemon; keeps the folder with its logs."""
        for name in self.names:
            self.kill(name)
        for file in ("slurmctld.pid", "slurmdbd.pid", "mysql/mariadbd.pid", "munge/munged.pid"):
            self._stop(self.folder / file, signal.SIGTERM)

    def start(self, name: str) -> None:
        """Start a node; if it runs without its slurmd, start only slurmd."""
        slurmd = ("slurmd", "-N", name, "-f", str(self.conf))
        if inside := self._inside(name):
            self._run("nsenter", f"--target={inside}", "--pid", "--mount", *slurmd)
            return
        log = open(self.folder / "log" / f"{name}.out", "ab")  # noqa: SIM115  the daemon keeps it open
        # process 1 of the namespace collects the orphans, and outlives slurmd as a machine does
        inner = f"{shlex.join(slurmd)} && while sleep 1; do :; done"
        node = subprocess.Popen(
            ["unshare", *SPACES, "sh", "-c", inner],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self.environment,
            start_new_session=True,
            cwd="/",
        )
        (self.folder / f"{name}.pid").write_text(str(node.pid))

    def _inside(self, name: str) -> int | None:
        """Return the first process of a node's namespace, None if the node is off."""
        file = self.folder / f"{name}.pid"
        try:
            pid = int(file.read_text())
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return None

    def kill(self, name: str) -> None:
        """End a node at once, with everything that runs on it."""
        self._stop(self.folder / f"{name}.pid", signal.SIGKILL)

    def states(self) -> dict[str, str]:
        """Return the state of each node."""
        shown = self._ask("sinfo", "-h", "-N", "-o", "%N %T").split("\n")
        return dict(line.split() for line in shown if line)

    def check(self) -> None:
        """Check that a cluster can run here.

        Raises:
            Fault: if root, programs or namespaces are missing, or the folder already holds a cluster.
        """
        if os.geteuid() != 0:
            raise Fault("the dev cluster needs root: slurmd starts jobs as their users")
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing:
            raise Fault(f"{', '.join(missing)} not found: apt-get install {PACKAGES}")
        missing = [f"/dev/tty{k}" for k in range(4) if not Path(f"/dev/tty{k}").exists()]
        if missing:
            raise Fault(f"{missing[0]} not found: the pseudo-GPUs are /dev/tty[0-3] (mknod /dev/ttyN c 4 N)")
        if subprocess.run(["unshare", *SPACES, "true"], check=False, capture_output=True).returncode != 0:
            raise Fault("no process namespace can be made here (unshare): start the container privileged")
        if self.conf.exists():
            raise Fault(f"{self.folder} holds a cluster already: take it down first, or give another --dir")
        if len(str(self.socket)) > PATH_LIMIT:
            raise Fault(f"{self.folder} is too long a path for sockets: give a shorter --dir")

    def _munge(self) -> None:
        munge_dir = self.folder / "munge"
        munge_dir.chmod(0o755)
        key = munge_dir / "munge.key"
        key.unlink(missing_ok=True)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(128))
        files = {"key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munged.log"}
        files |= {"socket": "munge.socket", "seed-file": "munged.seed"}
        self._run("munged", "--force", *(f"--{option}={munge_dir / name}" for option, name in files.items()))

    def _accounting(self, host: str, ports: dict[str, int]) -> None:
        database_dir = self.folder / "mysql"
        database_dir.mkdir(mode=0o700, exist_ok=True)
        database_dir.chmod(0o700)
        (database_dir / "files").mkdir(exist_ok=True)
        base = ("--no-defaults", f"--socket={database_dir / 'socket'}")
        options = ("--user=root", f"--datadir={database_dir / 'data'}")
        self._run(
            "mariadb-install-db",
            "--no-defaults",
            *options,
            "--auth-root-authentication-method=socket",
            "--auth-root-socket-user=root",
            "--skip-test-db",
        )
        log = open(database_dir / "log", "ab")  # noqa: SIM115  the daemon keeps it open
        server = subprocess.Popen(
            [
                "mariadbd",
                *base,
                *options,
                f"--pid-file={database_dir / 'mariadbd.pid'}",
                "--skip-networking",
                f"--secure-file-priv={database_dir / 'files'}",
                "--innodb-buffer-pool-size=64M",
                "--innodb-lock-wait-timeout=900",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        (database_dir / "mariadbd.pid").write_text(str(server.pid))
        self._wait("mariadbd", lambda: self._answers("mariadb-admin", *base, "ping"))
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(slurmdbd_conf(self.folder, host, ports))
        conf.chmod(0o600)  # slurmdbd requires it; there is no password in it
        # slurmdbd.conf has no key for the socket: the client library reads it from the environment
        self._run("env", f"MYSQL_UNIX_PORT={database_dir / 'socket'}", "slurmdbd")
        self._wait("slurmdbd", lambda: self._answers("sacctmgr", "-n", "-i", "list", "cluster"))
        self._run("sacctmgr", "-i", "add", "cluster", "dev")
        for name, limits in QOS.items():
            if name != "normal":  # Slurm makes it by itself
                self._run("sacctmgr", "-i", "add", "qos", name, *limits)
        for name in ACCOUNTS:
            self._run("sacctmgr", "-i", "add", "account", name, "Cluster=dev")
            options = (f"QOS={','.join(QOS)}", "DefaultQOS=normal", f"DefaultAccount={ACCOUNTS[0]}")
            self._run("sacctmgr", "-i", "add", "user", "root", f"Account={name}", *options)

    def _run(self, *words: object) -> None:
        result = subprocess.run(
            [str(word) for word in words], check=False, capture_output=True, text=True, env=self.environment
        )
        if result.returncode != 0:
            output = (result.stderr + result.stdout).strip().splitlines()
            raise Fault(
                f"{words[0]} failed: {output[-1] if output else result.returncode}; see {self.folder}/log"
            )

    def _ask(self, *words: str) -> str:
        result = subprocess.run(words, check=False, capture_output=True, text=True, env=self.environment)
        return result.stdout if result.returncode == 0 else ""

    def _answers(self, *words: str) -> bool:
        return subprocess.run(words, check=False, capture_output=True, env=self.environment).returncode == 0

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not ready():
            if time.monotonic() > end:
                raise Fault(f"{what} did not answer in {PATIENCE:.0f} s: see {self.folder}/log")
            time.sleep(0.1)

    def _stop(self, file: Path, number: signal.Signals) -> None:
        """Send a signal to the process of a PID file and wait for its end; kill it if that takes too long."""
        if not file.exists():
            return
        pid = int(file.read_text())
        file.unlink()
        end = time.monotonic() + PATIENCE
        try:
            os.kill(pid, number)
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                if time.monotonic() > end:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        except (ProcessLookupError, FileNotFoundError):
            return


def _see_that_it_is_ours(folder: Path) -> None:
    """Check a folder, if it exists: it must be a cluster's or empty, and only this user may write it.

    Raises:
        Fault: if it is anything else, or a link.
    """
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Fault(f"{folder} is no folder that you alone can write: remove it, or give another --dir")
    if any(folder.iterdir()) and not (folder / "munge").is_dir():  # `down` would remove it
        raise Fault(f"{folder} holds something else than a dev cluster: give another --dir")


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of this machine: no other cluster chooses ports until this one listens on its own."""
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_ports(nodes: list[str]) -> dict[str, int]:
    """Return the ports of the first block in which nobody listens, by daemon and by node.

    Raises:
        Fault: if no block is free.
    """
    for first in BLOCKS:
        ports = {name: first + offset for name, offset in PORTS.items()}
        ports |= {name: ports["slurmd"] + k for k, name in enumerate(nodes, 1)}
        if all(map(_is_free, ports.values())):
            return ports
    raise Fault(f"no block of free ports from {BLOCKS.start} to {BLOCKS.stop}: take dev clusters down")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def main() -> int:
    """Run one command; returns the exit code, 2 after a fault, which is printed on one line."""
    parser = argparse.ArgumentParser(description="A real, private Slurm on this machine.")
    parser.add_argument("what", choices=("up", "down", "status", "kill", "start"))
    parser.add_argument("node", nargs="?", help="for kill and start: node1, node2 ...")
    parser.add_argument("--dir", type=Path, default=Path("/tmp/slurm-dev"), help="default /tmp/slurm-dev")
    parser.add_argument("--nodes", type=int, default=3, help="default 3")
    arguments = parser.parse_args()
    try:
        cluster = Cluster(arguments.dir, arguments.nodes)
        if arguments.what in ("kill", "start"):
            if arguments.node not in cluster.names:
                raise Fault(f"{arguments.what} which node? one of {', '.join(cluster.names)}")
            getattr(cluster, arguments.what)(arguments.node)
        elif arguments.what == "up":
            cluster.up()
            print(f"export SLURM_CONF={cluster.conf}")
        elif arguments.what == "down":
            cluster.down()
        else:
            print("\n".join(f"{name} {state}" for name, state in cluster.states().items()) or "down")
    except Fault as fault:
        print(f"devcluster: {fault}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
