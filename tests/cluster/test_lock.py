"""Who may train in a run directory: a requeued job waits for what Slurm has lost, anyone else is refused."""

from __future__ import annotations

import fcntl
import threading
import time

import pytest

from mmgnn_dist.errors import UserError
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
