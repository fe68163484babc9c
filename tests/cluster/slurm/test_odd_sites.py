"""What else a site does to a job: too little memory, a wrong clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import ask, changed, finish, held, reach, same_end, status, submit

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
MEMORY = Path("/sys/fs/cgroup/memory")
FAKED = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
HUNGRY = """
import sys, time
open("/proc/self/oom_score_adj", "w").write("-1000")
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
kept = bytearray(100 << 20)
time.sleep(1)
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup whose memory can be limited."""
    folder = MEMORY / f"mmgnn-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of version 1 can be made: {error}")
    yield folder
    for pid in (folder / "cgroup.procs").read_text().split():
        (MEMORY / "cgroup.procs").write_text(pid)
    folder.rmdir()


def test_a_rank_that_a_cgroup_ends_goes_on_and_the_cause_is_named(
    cluster, recipe, undisturbed, tmp_path, cgroup
):
    """The limit is reached once; the kernel kills the largest process of the cgroup, a rank."""
    run = tmp_path / "run"
    slurmd = ask("pgrep", "-xf", f"slurmd -N node2 -f {cluster.folder}/slurm.conf")
    (cgroup / "cgroup.procs").write_text(slurmd)  # what it starts from now on is in it
    job = submit(recipe, run)
    reach(run, 25)
    with held(run):
        used = int((cgroup / "memory.usage_in_bytes").read_text())
        (cgroup / "memory.limit_in_bytes").write_text(str(used + (20 << 20)))
        subprocess.run([sys.executable, "-c", HUNGRY, str(cgroup)], check=False)
        (cgroup / "memory.limit_in_bytes").write_text("-1")
    finish(run, job)
    same_end(run, undisturbed)
    (note,) = (run / "slurm" / f"{job}.0").glob("rank_*.killed")
    assert "was killed by signal 9, by the out-of-memory killer" in note.read_text()
    assert status(run)["restarts"] == 1


def test_a_node_whose_clock_is_wrong_changes_nothing(cluster, recipe, undisturbed, tmp_path):
    if not FAKED.is_file():
        pytest.skip("libfaketime is not installed: apt-get install faketime")
    run, python = tmp_path / "run", tmp_path / "python"
    faked = f"export LD_PRELOAD={FAKED} FAKETIME=+3h"
    python.write_text(f'#!/bin/sh\n[ "$SLURM_PROCID" = 1 ] && {faked}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    job = submit(recipe, run, profile=changed(tmp_path, python=str(python)))
    reach(run, 25)
    with held(run):
        ask("scancel", "--signal=USR2", job)
    finish(run, job)
    same_end(run, undisturbed)
    assert status(run)["restarts"] == 1
