"""Reading ahead keeps order and errors, and its thread ends."""

from __future__ import annotations

import threading
import time

import pytest

from mmgnn_dist.data.loading.read_ahead import read_ahead


def threads() -> int:
    return sum(thread.name == "read ahead" for thread in threading.enumerate())


def test_items_come_in_order_and_not_too_early():
    made = []

    def ready(item):
        made.append(item)
        return item * item

    steps = read_ahead(iter(range(9)), ready, depth=2)
    assert next(steps) == 0
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]  # two wait, and one more is in the hand of the thread
    assert list(steps) == [n * n for n in range(1, 9)] and threads() == 0


def test_an_error_is_raised_where_it_belongs():
    def ready(item):
        if item == 2:
            raise OSError("shard is gone")
        return item

    steps = read_ahead(iter(range(9)), ready)
    assert [next(steps), next(steps)] == [0, 1]
    with pytest.raises(OSError, match="shard is gone"):
        next(steps)
    assert threads() == 0


def test_a_consumer_that_leaves_ends_the_thread():
    steps = read_ahead(iter(range(999)), lambda item: item)
    assert next(steps) == 0 and threads() == 1
    steps.close()
    assert threads() == 0
