"""Where the time of a run went, from a journal that an interruption has cut."""

from __future__ import annotations

import os
import time

import pytest

from mmgnn_dist.train.tracking.goodput import goodput
from mmgnn_dist.train.tracking.journal import Journal, read_journal


def test_time_is_divided_among_training_repetition_and_waiting(tmp_path):
    """Ten steps of a second, the last four lost, 30 s of waiting, then four steps again: 50 s in all."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, 0)
    assert journal.lost is None
    journal.write("start", step=0, time=1000.0)
    for step in range(1, 11):
        journal.write("train", step=step, seconds=float(step))
    journal.close()
    died = time.time() - 30
    os.utime(path, (died, died))
    journal = Journal(path, 6)
    assert journal.lost["steps"] == 4 and journal.lost["seconds"] == 4.0
    assert journal.lost["idle"] == pytest.approx(30, abs=1)
    journal.write("resume", step=6, time=1042.0, lost={**journal.lost, "idle": 30.0})
    for step in range(7, 11):
        journal.write("train", step=step, seconds=float(step))
    journal.close()
    found = goodput(read_journal(path), 1050.0)
    assert found == pytest.approx({"training": 0.2, "repeated": 0.08, "waiting": 0.6, "between": 0.12})


def test_journals_without_times_have_no_goodput():
    step = {"kind": "train", "step": 1, "seconds": 1.0}
    assert goodput([{"kind": "start", "step": 0}, step], 2.0) is None
    assert goodput([{"kind": "start", "step": 0, "time": 1.0}], 2.0) is None
