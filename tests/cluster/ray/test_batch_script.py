"""The shipped batch script of Ray where a signal comes before its command can stop in order.

Slurm cannot be made to send it at that moment, so `squeue` and `scontrol` are programs of this test.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from ray_batch import SCRIPT

LATER = 'kill -USR2 "$PPID"'  # by a child of the script


@pytest.mark.parametrize(
    ("squeue", "command", "ran"),
    [
        ('kill -USR2 "$(ps -o ppid= -p "$PPID")"', "echo ran", False),
        ("true", f"echo ran; {LATER}; exec sleep 30", True),
        ("true", "echo ran; trap 'exit 3' TERM; " + LATER + "; while :; do sleep 0.1; done", True),
    ],
    ids=["before the command", "before it has a handler", "later"],
)
def test_a_signal_at_any_moment_sends_the_job_back(tmp_path, squeue, command, ran):
    asked = tmp_path / "asked"
    programs = {
        "squeue": squeue,
        "scontrol": f'echo "$@" > {asked}; kill -KILL "$(ps -o ppid= -p "$PPID")"',  # Slurm ends the job
    }
    for name, lines in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / name).chmod(0o700)
    done = subprocess.run(
        ["bash", SCRIPT, "bash", "-c", command],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("ran" in done.stdout) == ran
    assert asked.read_text() == "requeue 7\n", done
