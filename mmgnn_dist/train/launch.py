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

GRACE = 20.0  # seconds between asking the other ranks to end and ending them

_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone."""
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port() -> int:
    """A TCP port that is free on the loopback interface now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(run: Path, nproc: int) -> int:
    """Run the recipe of a run directory in `nproc` processes; returns the exit code."""
    port = free_port()
    ranks: list[subprocess.Popen[bytes]] = []
    for rank in range(nproc):
        variables = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": nproc, "LOCAL_WORLD_SIZE": nproc,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        command = [sys.executable, "-m", "mmgnn_dist.train.run", str(run)]
        process = subprocess.Popen(command, env=environment, preexec_fn=die_with_parent)  # noqa: PLW1509
        ranks.append(process)

    def forward(number: int, frame: FrameType | None) -> None:
        for process in ranks:
            if process.poll() is None:
                process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, forward)
    return _wait(ranks)


def _wait(ranks: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all; when one fails, end the others."""
    failed: int | None = None
    deadline = 0.0
    while True:
        codes = [process.poll() for process in ranks]
        bad = [code for code in codes if code not in (None, 0, 3)]
        if failed is None and bad:
            # a peer that lost its connection may have ended already: the one that was killed comes first
            failed = min(bad)
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
        return failed if failed > 0 else 1
    return max(process.returncode for process in ranks)


if __name__ == "__main__":
    die_with_parent()
    sys.exit(launch(Path(sys.argv[1]), int(sys.argv[2])))
