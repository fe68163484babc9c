"""Several ranks on this machine: `mmgnn train RECIPE --nproc N`.

Starts N processes of `mmgnn_dist.train.run` with the usual environment, passes signals on, ends all when
one fails, and hands back the worst exit code unchanged (torchrun would turn 2 and 3 into 1). A rank does not
outlive the launcher, and as a program of its own (`python -m mmgnn_dist.train.launch RUN N`, a trial of a
sweep) the launcher does not outlive what started it.
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

from mmgnn_dist.errors import EXIT_FAULT, EXIT_STOPPED
from mmgnn_dist.signals import STOP_SIGNALS

LISTENING = "MMGNN_LISTENING"  # the descriptor of a socket on which the first rank's store is to listen
GRACE = 20.0  # seconds between asking the other ranks to end and ending them

_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone."""
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def listen(address: str) -> tuple[socket.socket, int]:
    """A socket that listens on a port that was free, for the first rank to inherit, and the port.

    A number that is looked up and given back may be taken by anyone before the rank listens there itself.
    """
    listening = socket.create_server((address, 0))
    return listening, int(listening.getsockname()[1])


def start_here(command: list[str], nproc: int, **options: Any) -> list[subprocess.Popen[bytes]]:
    """Start `nproc` processes of a command on this machine that find each other by torch.distributed."""
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
            }
            if rank == 0:
                variables[LISTENING] = listening.fileno()
            environment = os.environ | {name: str(value) for name, value in variables.items()}
            kept = [] if rank else [listening.fileno()]
            ranks.append(subprocess.Popen(command, env=environment, pass_fds=kept, **options))
    return ranks


def launch(run: Path, nproc: int) -> int:
    """Run the recipe of a run directory in `nproc` processes; returns the exit code.

    Signals are passed on meanwhile; ranks that died of one, before they could listen, count as stopped.
    """
    command = [sys.executable, "-m", "mmgnn_dist.train.run", str(run)]
    ranks = start_here(command, nproc, preexec_fn=die_with_parent)
    passed: set[int] = set()

    def forward(number: int, frame: FrameType | None) -> None:
        passed.add(number)
        for process in ranks:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        code = _wait(ranks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code < 0:
        return EXIT_STOPPED if -code in passed else EXIT_FAULT
    return code


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all, and end the others when one fails; returns that one's code, else the worst."""
    failed: int | None = None
    deadline = 0.0
    while True:
        codes = [process.poll() for process in ranks]
        bad = [code for code in codes if code not in (None, 0, 3)]
        if failed is None and bad:
            # a peer that lost its connection may have ended already: the one that was killed comes first,
            # then the one that found wrong input
            failed = min(bad, key=lambda code: (code > 0, -abs(code)))
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
