"""One node of a Ray cluster in an allocation: `srun python -m mmgnn_dist.cluster.ray.node ADDRESS FOLDER`.

The first task is the head. The node ends, with every process that Ray started here, when standard input ends
(the process that started srun is done or dead), on a signal, or when Ray ends. `ray stop` is never used: it
would also end the Ray of other jobs of the same user.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from mmgnn_dist.cluster.slurm.supervisor import own_address, tasks_per_node
from mmgnn_dist.data.prepare.ray_run import OBJECT_STORE
from mmgnn_dist.signals import STOP_SIGNALS
from mmgnn_dist.train.launch import die_with_parent

GRACE, SAVING = 5.0, 20.0  # seconds between SIGTERM and SIGKILL; SAVING is for trials
TRIAL = "mmgnn_dist.train.launch"  # in the command line of the process that runs the ranks of a trial
AGAIN = 30  # times that a worker tries to reach its head
ANY = (
    "node-manager",
    "object-manager",
    "min-worker",
    "max-worker",
    "metrics-export",
    "dashboard-agent-listen",
    "dashboard-agent-grpc",
    "runtime-env-agent",
)


def words(address: str, folder: str) -> list[str]:
    """Return the command line of `ray start` on this node."""
    node = int(os.environ["SLURM_NODEID"])
    cpus = tasks_per_node(os.environ["SLURM_JOB_CPUS_PER_NODE"])[node]
    gpus = len([device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device])
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    command += [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={OBJECT_STORE}"]
    command += [f"--{name}-port=0" for name in ANY]  # any free port: nodes may share one address
    if node:
        return [*command, f"--address={address}", f"--node-ip-address={own_address()}"]
    host, port = address.split(":")
    # Ray makes its folder writable for everybody: it lies in one that only this user can enter
    command += ["--head", f"--node-ip-address={host}", f"--port={port}", f"--temp-dir={folder}/t"]
    return [*command, "--include-dashboard=false", "--dashboard-host=127.0.0.1"]


def serve(address: str, folder: str) -> int:
    """Run this node of the Ray cluster until its end; returns the exit code."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become children of this process
    make_private(Path(folder))
    over = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: over.set())
    threading.Thread(target=_until_end_of_input, args=(over,), daemon=True).start()
    # `ray start` fails on a worker that starts before its head, and is tried again
    for _ in range(AGAIN):
        ray = subprocess.Popen(words(address, folder), preexec_fn=die_with_parent)  # noqa: PLW1509
        while ray.poll() is None and not over.wait(0.2):
            pass
        end_all()
        if over.is_set() or os.environ["SLURM_NODEID"] == "0":
            break
        time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if over.is_set() else 1


def make_private(folder: Path) -> None:
    """Make a folder that only this user can enter; the nodes of one machine share it.

    Raises:
        PermissionError: it exists and is somebody else's, a link, or open to others.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is no folder of this user alone: remove it, or set another TMPDIR")


def _until_end_of_input(over: threading.Event) -> None:
    sys.stdin.buffer.read()
    over.set()


def end_all() -> None:
    """End every descendant of this process; trials end first, since they save before they exit."""
    _end([process for process in _below() if TRIAL in _words(process)], SAVING)
    _end(_below(), GRACE)
    _end(_below(), 0.0)  # processes that were started meanwhile


def _end(processes: list[psutil.Process], seconds: float) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    end = time.monotonic() + seconds
    while any(process.is_running() for process in processes) and time.monotonic() < end:
        _reap()
        time.sleep(0.1)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _reap()


def _below() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _reap() -> None:
    """Collect the exit status of children, adopted orphans included."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], sys.argv[2]))
