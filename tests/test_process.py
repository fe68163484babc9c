"""Temporary folders of processes: of the dead they go at the next start, of the living they stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmgnn_dist.process import LOCK, dead_folders, make_owned_folder, owned_folder, remove_owned_folder

# makes files as libraries do, in this process and in one that it starts, and waits
HELD = """
import os, subprocess, sys, tempfile, time
from pathlib import Path
from mmgnn_dist.process import make_owned_folder, temporary_folders
make_owned_folder(Path(sys.argv[1]), ".predict-")
with temporary_folders():
    tempfile.mkdtemp(prefix="matplotlib-")
    subprocess.run(["sh", "-c", "touch $TMPDIR/wandb_symon-1-2-3.sock"], check=True)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def killed(tmp_path):
    """A process with temporary files, to be killed by the test."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in folder.iterdir())


def test_what_a_killed_process_left_goes_at_the_next_start(killed, tmp_path, monkeypatch):
    assert names(tmp_path) == [".predict", "mmgnn"]
    assert not dead_folders(tmp_path, "")
    with owned_folder(tmp_path, ".predict-"):
        assert names(tmp_path) == [".predict", ".predict", "mmgnn"]  # the living one keeps its own
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    with owned_folder(tmp_path, ".predict-") as folder:
        assert names(tmp_path) == [".predict", "mmgnn"] and folder.stat().st_mode & 0o777 == 0o700
    (left,) = dead_folders(tmp_path, "")
    assert {path.name.split("-")[0] for path in left.iterdir()} == {".lock", "matplotlib", "wandb_symon"}
    code = "from mmgnn_dist.process import temporary_folders\nwith temporary_folders(): pass"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert names(tmp_path) == []


def test_folders_of_other_machines_and_users_are_left_alone(tmp_path):
    folders = {name: make_owned_folder(tmp_path, f"mmgnn-{name}-") for name in ("far", "theirs", "bare")}
    for folder in folders.values():
        kept = tmp_path / "kept"
        folder.rename(kept)
        remove_owned_folder(folder)  # its lock is free then, as after a kill
        kept.rename(folder)
    (folders["far"] / LOCK).write_text("another-machine")
    (folders["bare"] / LOCK).unlink()
    if os.geteuid() == 0:
        os.chown(folders["theirs"], 65534, 65534)
    else:
        (folders["theirs"] / LOCK).unlink()
    (tmp_path / "mmgnn-link-x").symlink_to(folders["far"])
    assert dead_folders(tmp_path, "mmgnn-") == []
