"""The folder of Ray's sockets on a node: nobody else can enter it, make it first, or put a link there."""

from __future__ import annotations

import os

import pytest

from mmgnn_dist.cluster.ray.allocation import started_nodes
from mmgnn_dist.cluster.ray.node import make_private


def test_the_folder_is_of_this_user_alone_under_any_umask(tmp_path):
    previous = os.umask(0)
    try:
        make_private(tmp_path / "ray")
        make_private(tmp_path / "ray")  # the nodes of the dev cluster share it
    finally:
        os.umask(previous)
    assert (tmp_path / "ray").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["open", "link", "theirs"])
def test_a_folder_that_somebody_else_made_is_refused(tmp_path, kind):
    folder = tmp_path / "ray"
    if kind == "link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir(mode=0o700)
    if kind == "open":
        folder.chmod(0o777)
    if kind == "theirs":
        if os.geteuid() != 0:
            pytest.skip("only root gives folders away")
        os.chown(folder, 65534, 65534)
    with pytest.raises(PermissionError, match="no folder of this user alone"):
        make_private(folder)


def test_nodes_count_when_ray_start_has_ended_well_each_once(tmp_path):
    """A raylet that has joined may still be given up; srun goes on to write where the file stands."""
    with open(tmp_path / "log", "w+") as log:
        log.write(
            " 0: 11:20:00 SUCC -- Ray runtime started.\n 1: The current node timed out during startup.\n"
        )
        log.flush()
        where = os.lseek(log.fileno(), 0, os.SEEK_CUR)
        assert started_nodes(log) == {b"0"} and os.lseek(log.fileno(), 0, os.SEEK_CUR) == where
        log.write("10: SUCC -- Ray runtime started.\n 0: SUCC -- Ray runtime started.\n")
        log.flush()
        assert started_nodes(log) == {b"0", b"10"}
