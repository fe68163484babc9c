"""Ranks that `mmgnn train --nproc N` starts are forked from the launcher, which has imported all libraries.

The imports of a rank take longer than a small run. A forked rank has its own environment, signals and exit
code, is a child of the launcher, and holds no socket of another rank. `tests/train/test_launch.py` starts
ranks as new interpreters.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmgnn_dist.process import exit_now

RANK = [sys.executable, "-m", "mmgnn_dist.train.run"]


class ForkedRank:
    """A rank as the launcher uses it: a part of `subprocess.Popen`."""

    def __init__(
        self,
        command: Sequence[str],
        env: dict[str, str],
        pass_fds: Sequence[int],
        preexec_fn: Callable[[], None],
    ) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _be_rank(list(command), env, pass_fds, preexec_fn)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _be_rank(
    command: list[str], env: dict[str, str], pass_fds: Sequence[int], preexec_fn: Callable[[], None]
) -> None:
    code = 1
    try:
        preexec_fn()
        for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            try:
                socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
            except OSError:  # that of the listing itself
                continue
            if socket and fd not in pass_fds:
                os.close(fd)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = command[2:]
        from mmgnn_dist.train import run

        code = run.main()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        exit_now(code)


def fork_ranks() -> None:
    """Have this process fork its ranks from now on."""
    start = subprocess.Popen

    def choose(command: Any, *arguments: Any, **options: Any) -> Any:
        is_rank = isinstance(command, list) and command[:3] == RANK
        return (ForkedRank if is_rank else start)(command, *arguments, **options)

    subprocess.Popen = choose
