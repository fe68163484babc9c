"""A real limit of memory, by a cgroup: the kernel's killer is told from another signal 9."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GROUPS = (  # where a cgroup can be made, and its limit: v1, v2
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)
INSIDE = """
import os, subprocess, sys
from mmgnn_dist.cluster.out_of_memory import oom_kills
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
for words in sys.argv[2:]:
    print(subprocess.run([sys.executable, "-c", words]).returncode, oom_kills())
"""


@pytest.fixture
def limited():
    """A cgroup of 60 MB."""
    for above, limit in GROUPS:
        folder = above / f"mmgnn-test-{os.getpid()}"
        try:
            folder.mkdir()
            if (folder / limit).is_file():
                (folder / limit).write_text(str(60 << 20))
                yield folder
                folder.rmdir()
                return
            folder.rmdir()
        except OSError:
            continue
    pytest.skip("no cgroup with a limit of memory can be made here")


def test_the_out_of_memory_killer_is_counted_and_another_signal_is_not(limited):
    killed = "import os; os.kill(os.getpid(), 9)"
    hungry = "x = bytearray(200 << 20)"
    words = [sys.executable, "-c", INSIDE, str(limited), killed, hungry]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["-9 0", "-9 1"]
