"""The private Slurm itself: what it refuses, several side by side, and nothing that stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from private import DEVCLUSTER, Cluster, hindrance, left_over


def up(folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(DEVCLUSTER), "up", "--dir", str(folder), "--nodes", "1"]
    return subprocess.run(words, check=False, capture_output=True, text=True, **options)


@pytest.mark.slow
@pytest.mark.slurm
def test_a_second_cluster_stands_beside_the_first_and_leaves_nothing(cluster, tmp_path):
    """Its ports, sockets and states are its own, and its end does not touch the other."""
    again = up(cluster.folder)
    assert again.returncode == 2 and "holds a cluster already" in again.stderr
    other = Cluster(tmp_path / "other")
    first = (cluster.folder / "slurm.conf").read_text()
    try:
        done = up(other.folder)
        assert done.returncode == 0, done.stderr
        conf = (other.folder / "slurm.conf").read_text()
        ports = [set(part.split()[0] for part in text.split("Port=")[1:]) for text in (first, conf)]
        assert len(ports[1]) == 3 and not ports[0] & ports[1]
        environment = os.environ | {"SLURM_CONF": str(other.folder / "slurm.conf")}
        said = subprocess.run(
            ["srun", "-N1", "sh", "-c", "echo $SLURM_CONF $SLURMD_NODENAME"],
            check=True, capture_output=True, text=True, env=environment,
        ).stdout  # fmt: skip
        assert said.split() == [environment["SLURM_CONF"], "node1"]
        assert left_over(other.folder)
    finally:
        other.do("down")
    assert not left_over(other.folder) and not other.folder.exists()
    assert subprocess.run(["srun", "-N3", "true"], check=False).returncode == 0


def test_why_a_machine_has_none_is_told_before_anything_starts(tmp_path, monkeypatch):
    """The same words are the reason of skipped tests."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        assert "needs root" in str(hindrance(tmp_path / "slurm"))
    monkeypatch.setenv("PATH", "/nowhere")
    if os.geteuid() == 0:
        assert "slurmctld" in str(hindrance(tmp_path / "slurm"))
    assert not (tmp_path / "slurm").exists()
