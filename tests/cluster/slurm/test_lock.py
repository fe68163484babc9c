"""Who may train in a run directory: a requeued job waits for what Slurm has lost, anyone else is refused."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time

import pytest

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path
from mmgnn_dist.train.run import _only_one


def test_a_requeued_job_waits_until_the_run_directory_is_free(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    other = (tmp_path / "logs" / "lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="trained by another process"):
        _only_one(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    started = time.monotonic()
    threading.Timer(1.0, other.close).start()
    _only_one(tmp_path).close()
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=f"{os.strerror(code)}.*has no file locks.*flock"):
        _only_one(tmp_path)


def test_writers_of_one_file_on_two_machines_share_nothing(tmp_path, monkeypatch):
    """Process numbers of two nodes or containers may be equal."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with atomic_path(tmp_path / "file") as one, atomic_path(tmp_path / "file") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "file").read_text() == "one" and len(list(tmp_path.iterdir())) == 1
