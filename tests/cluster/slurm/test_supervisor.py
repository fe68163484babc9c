"""The supervisor of a rank on a disk that was full for a moment."""

from __future__ import annotations

import errno
import os

import pytest
from submitit.core.utils import temporary_save_path

from mmgnn_dist.cluster.slurm import supervisor
from mmgnn_dist.run_dir import RunDir

VARIABLES = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "SLURM_PROCID": "1"}


def test_a_half_written_result_of_an_earlier_start_fails_no_later_one(tmp_path, monkeypatch):
    """submitit refuses to write its result where it stands."""
    for name, value in (VARIABLES | {"SUBMITIT_FOLDER": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "7_1_result.pkl.save_tmp").touch()
    monkeypatch.setattr(supervisor, "supervise", lambda run: "done")
    assert supervisor.Task(tmp_path)() == "done"
    with temporary_save_path(tmp_path / "7_1_result.pkl") as part:
        part.touch()


def test_notes_on_a_full_disk_are_empty_and_the_log_has_the_words(tmp_path, monkeypatch, capsys):
    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name, value in {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURMD_NODENAME": "node1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(supervisor, "write_text", full)
    assert supervisor.supervise(tmp_path) == "failed"
    notes = RunDir(tmp_path).attempt("7", "0")
    assert sorted(path.name for path in notes.iterdir()) == ["fault", "rank_0.failed", "rank_0.started"]
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("world", [2, 64, 512])
def test_looks_at_the_disk_grow_slower_than_ranks(tmp_path, world):
    """Fifty questions a second for any number of ranks, no listing; a lost rank is noticed within 30 s."""
    every = supervisor.look_every(world)
    assert world / every <= 50 and every <= 30
    assert not supervisor._another_failed(tmp_path)
    for rank in range(3):
        (tmp_path / f"rank_{rank}.started").touch()
    assert not supervisor._another_failed(tmp_path)
    (tmp_path / supervisor.FAULT).touch()
    assert supervisor._another_failed(tmp_path)
