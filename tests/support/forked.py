"""What a forked command starts is forked from it: ranks of `--nproc N`, and the fork server of a study.

The imports of a new interpreter take longer than a small run. A forked process has its own environment,
signals and exit code, is a child of the one that started it, and holds no file of it but those passed on.
Ranks are new interpreters in `tests/train/test_launch.py`, `tests/train/test_outside.py` and on Slurm.
"""

from __future__ import annotations

import multiprocessing.util
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mmgnn_dist.process import exit_now
from mmgnn_dist.signals import STOP_SIGNALS

NEW_INTERPRETERS = "MMGNN_TESTS_NEW_INTERPRETERS"  # set where a test is about what a new interpreter finds
RANKS = [[sys.executable, "-m", f"mmgnn_dist.train.{name}"] for name in ("run", "verify.replay")]


def fork(passed: Sequence[int], run: Callable[[], int | None]) -> int:
    """Fork a process that keeps the passed files and ends with the exit code of `run`; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code: int | None = 1
    try:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for file in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if file > 2 and file not in passed:
                try:
                    os.close(file)
                except OSError:  # that of the listing itself
                    continue
        code = run()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        exit_now(code or 0)


class ForkedRank:
    """A rank as the launcher uses it: a part of `subprocess.Popen`."""

    def __init__(
        self,
        command: Sequence[str],
        env: dict[str, str],
        pass_fds: Sequence[int],
        preexec_fn: Callable[[], None],
    ) -> None:
        def run() -> int:
            preexec_fn()
            os.environ.clear()
            os.environ.update(env)
            sys.argv = list(command[2:])
            return import_module(command[2]).main()

        self.returncode: int | None = None
        self.pid = fork(pass_fds, run)

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


def fork_what_it_starts() -> None:
    """Have this process fork its ranks and its fork server from now on."""
    popen, spawn = subprocess.Popen, multiprocessing.util.spawnv_passfds

    class Popen(popen):  # still a class: libraries that are imported later name its types and inherit from it
        def __new__(cls, command: Any, *arguments: Any, **options: Any) -> Any:
            is_rank = isinstance(command, list) and command[:3] in RANKS
            return ForkedRank(command, *arguments, **options) if is_rank else super().__new__(cls)

    def serve(path: Any, words: list[str], passed: Sequence[int]) -> int:
        program = words[-1]
        if "multiprocessing.forkserver" not in program:
            return spawn(path, words, passed)
        return fork(passed, lambda: exec(program, {}))

    subprocess.Popen, multiprocessing.util.spawnv_passfds = Popen, serve
