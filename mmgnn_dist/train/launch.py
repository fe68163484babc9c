"""Launcher of several ranks on this machine: `mmgnn train RECIPE --nproc N`.

It starts N processes of `mmgnn_dist.train.run` with the usual environment variables, forwards signals, ends
all processes when one fails, and returns the worst exit code unchanged (torchrun would turn 2 and 3 into 1).
A rank ends with the launcher. As a program (`python -m mmgnn_dist.train.launch RUN N`, a trial of a sweep)
the launcher ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from mmgnn_dist.errors import EXIT_FAULT, EXIT_HUNG, EXIT_STOPPED
from mmgnn_dist.signals import STOP_SIGNALS

LISTENING = "MMGNN_LISTENING"  # file descriptor of the socket on which the first rank's store listens
GRACE = 20.0  # seconds between SIGTERM and SIGKILL for the other ranks

_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent ends."""
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def listen(address: str) -> tuple[socket.socket, int]:
    """Open a listening socket on a free port for the first rank to inherit; return it and the port.

    If the port were released, another process could take it before the rank listens there.
    """
    listening = socket.create_server((address, 0))
    return listening, int(listening.getsockname()[1])


def start_here(command: list[str], nproc: int, **options: Any) -> list[subprocess.Popen[bytes]]:
    """Start a command in `nproc` processes on this machine, as ranks of one torch.distributed group."""
    listening, port = listen("127.0.0.1")
    ranks = []
    with listening:
        for rank in range(nproc):
            variables = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": nproc,
                "LOCAL_WORLD_SIZE": nproc,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                # else gloo listens at the address of the machine's name, without a password
                "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
            }
            if rank == 0:
                variables[LISTENING] = listening.fileno()
            environment = os.environ | {name: str(value) for name, value in variables.items()}
            inherited = [] if rank else [listening.fileno()]
            ranks.append(subprocess.Popen(command, env=environment, pass_fds=inherited, **options))
    return ranks


def launch(run: Path, nproc: int, module: str = "mmgnn_dist.train.run") -> int:
    """Run the recipe of a run directory in `nproc` processes; return the exit code.

    Signals are forwarded meanwhile; ranks killed by one before they handle signals count as stopped.

    Args:
        run: the run directory.
        nproc: number of processes.
        module: what each process runs, with the directory as its argument.
    """
    command = [sys.executable, "-m", module, str(run)]
    ranks = start_here(command, nproc, preexec_fn=die_with_parent)
    forwarded: set[int] = set()

    def forward(number: int, frame: FrameType | None) -> None:
        forwarded.add(number)
        for process in ranks:
            if process.poll() is None:
                process.send_signal(number)

    old_handlers = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        code = _wait(ranks)
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
    if code < 0:
        return EXIT_STOPPED if -code in forwarded else EXIT_FAULT
    return EXIT_FAULT if code == EXIT_HUNG else code


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all ranks, and end them when one fails; return the code of that one, else the worst code."""
    failed: int | None = None
    deadline = 0.0
    while True:
        codes = [process.poll() for process in ranks]
        failures = [code for code in codes if code not in (None, 0, 3)]
        if failed is None and failures:
            # several ranks may have ended, some only for a lost connection: prefer a rank that was killed,
            # then one that found wrong input
            failed = min(failures, key=lambda code: (code > 0, -abs(code)))
            rank = codes.index(failed)
            print(f"rank {rank} ended with exit code {failed}: stopping the others", file=sys.stderr)
            deadline = time.monotonic() + GRACE
            for process in ranks:
                if process.poll() is None:
                    process.terminate()
        if None not in codes:
            break
        if failed is not None and time.monotonic() > deadline:
            for process in ranks:
                process.kill()
        time.sleep(0.1)
    if failed is not None:
        return failed
    return max(process.returncode for process in ranks)


if __name__ == "__main__":
    die_with_parent()
    sys.exit(launch(Path(sys.argv[1]), int(sys.argv[2])))
