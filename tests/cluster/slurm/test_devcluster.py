"""The private Slurm itself: what it refuses, several side by side, and nothing that stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from private_cluster import DEVCLUSTER, Cluster, hindrance, left_over


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
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        ).stdout
        assert said.split() == [environment["SLURM_CONF"], "node1"]
        assert left_over(other.folder)
    finally:
        other.do("down")
    assert not left_over(other.folder) and not other.folder.exists()
    assert subprocess.run(["srun", "-N3", "true"], check=False).returncode == 0


@pytest.mark.slurm
def test_nobody_else_gets_at_its_keys_and_its_data_base(cluster):
    """The data base knows no password and no port; accounting asks it as root, through a socket."""
    place = cluster.folder / "mysql"
    question = (
        "select @@skip_networking, @@secure_file_priv; "
        "select user from mysql.global_priv where priv not like '%unix_socket%' and priv not like '%locked%'"
    )
    words = ["mariadb", "--no-defaults", f"--socket={place / 'socket'}", "-N", "-e", question]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["1", f"{place / 'files'}/"]
    for path, mode in ((place, 0o700), (cluster.folder / "munge" / "munge.key", 0o600)):
        assert path.stat().st_mode & 0o777 == mode
    assert "Pass" not in (cluster.folder / "slurmdbd.conf").read_text()
    words = ["sacctmgr", "-n", "list", "cluster"]
    assert "dev" in subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_a_folder_that_others_can_write_is_refused(tmp_path):
    """What lies in it would run as root."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    folder.chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    others = [folder, tmp_path / "link"]
    if os.geteuid() == 0:
        others.append(tmp_path / "theirs")
        others[-1].mkdir()
        os.chown(others[-1], 65534, 65534)
    for path in others:
        for what in ("up", "down"):
            words = [sys.executable, str(DEVCLUSTER), what, "--dir", str(path)]
            done = subprocess.run(words, check=False, capture_output=True, text=True)
            assert done.returncode == 2 and "no folder that you alone can write" in done.stderr
    assert folder.is_dir()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    words = [sys.executable, str(DEVCLUSTER), "down", "--dir", str(tmp_path)]
    tmp_path.chmod(0o755)
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "something else than a dev cluster" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_why_a_machine_has_none_is_told_before_anything_starts(tmp_path, monkeypatch):
    """The same words are the reason of skipped tests."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        assert "needs root" in str(hindrance(tmp_path / "slurm"))
    monkeypatch.setenv("PATH", "/nowhere")
    if os.geteuid() == 0:
        assert "slurmctld" in str(hindrance(tmp_path / "slurm"))
    assert not (tmp_path / "slurm").exists()
