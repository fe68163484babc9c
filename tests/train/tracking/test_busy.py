"""The rank for which the others wait is found by its own times, and named only if it is slow for long."""

from __future__ import annotations

import pytest
import torch

from mmgnn_dist.train.tracking.busy import WINDOW, BusyTimer, busy_ranks, slow_rank


def lines(*rows: tuple[float, ...]) -> list[dict]:
    return [{"kind": "train", "step": step, "busy": busy_ranks(row)} for step, row in enumerate(rows)]


def test_who_was_the_last():
    assert busy_ranks([1.0, 4.0, 1.0]) == {"mean": 2.0, "worst": 4.0, "rank": 1}


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([(1.0, 1.0, 2.0)] * WINDOW, "rank 2 is the slowest in 50 of the last 50 steps, 1.5 times the mean"),
        ([(1.0, 1.0, 2.0)] * (WINDOW - 1), None),  # not for long
        ([(1.0, 1.01, 1.1)] * WINDOW, None),  # hardly slower
        ([(1.0, 3.0), (3.0, 1.0)] * WINDOW, None),  # in turn, as shares of a batch differ
        ([(5.0, 1.0)] * WINDOW + [(1.0, 1.0)] * WINDOW, None),  # no longer
    ],
)
def test_a_slow_rank_is_named(rows, named):
    assert slow_rank(lines(*rows)) == named


def test_runs_of_one_rank_and_of_earlier_versions_name_nobody():
    assert slow_rank([]) is None and slow_rank([{"kind": "train", "step": 1}] * WINDOW) is None


def test_batches_and_forward_passes_count_and_waiting_does_not(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    timer = BusyTimer(torch.device("cpu"))

    def made():
        for _ in range(2):
            now[0] += 2.0
            yield "a step"

    for _ in timer.batches(made()):
        with timer.forward():
            now[0] += 3.0
        now[0] += 100.0  # the backward pass, in which a rank waits for the others
    assert (timer.take(), timer.take()) == (10.0, 0.0)


def test_passes_on_a_gpu_are_read_after_they_have_ended(monkeypatch):
    """Events of a card, without one: a pass counts in the step after which it has ended."""

    class Event:
        def __init__(self, enable_timing):
            self.ended = False

        def record(self):
            events.append(self)

        def query(self):
            return self.ended

        def elapsed_time(self, last):
            return 250.0

    events: list[Event] = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    timer = BusyTimer(torch.device("cuda"))
    with timer.forward():
        pass
    assert timer.take() == 0.0
    for event in events:
        event.ended = True
    assert timer.take() == 0.25 and timer.take() == 0.0
