"""How long each rank works for a step by itself, by which the journal names ranks that others wait for.

The time counts batches and forward passes: the backward pass waits for the other ranks. (At stage 3 forward
passes gather weights, and so wait too.) A GPU works while the host goes on, so there the passes lie between
two events, which are read after the step that the host waits for, and are sent with the next step.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mmgnn_dist.data.loading.loader import Step
from mmgnn_dist.run_records import BusyRanks, JournalLine

WINDOW = 50  # steps over which `slow_rank` looks
OFTEN, LONGER = 0.8, 1.3  # a rank is slow if it is the last in this share of them, and so much above the mean


class BusyTimer:
    """Measures the busy time of this rank.

    Args:
        device: device on which the rank computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = 0.0
        self._passes: list[tuple[Any, Any]] = []

    def batches(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Yield steps, and count the time until each is there."""
        while True:
            begin = time.monotonic()
            step = next(steps, None)
            self._seconds += time.monotonic() - begin
            if step is None:
                return
            yield step

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Count the time of the block, a forward pass."""
        if self._on_gpu:
            events = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
            events[0].record()
            yield
            events[1].record()
            self._passes.append((events[0], events[1]))
            return
        begin = time.monotonic()
        yield
        self._seconds += time.monotonic() - begin

    def take(self) -> float:
        """Return the seconds since the last call, on a GPU those of passes that have ended."""
        ended = [pair for pair in self._passes if pair[1].query()]
        seconds = self._seconds + sum(first.elapsed_time(last) for first, last in ended) / 1e3
        self._seconds, self._passes = 0.0, self._passes[len(ended) :]
        return seconds


def busy_ranks(seconds: Sequence[float]) -> BusyRanks:
    """Summarise the busy seconds of all ranks for the journal."""
    worst = int(np.argmax(seconds))
    return {
        "mean": round(float(np.mean(seconds)), 4),
        "worst": round(float(seconds[worst]), 4),
        "rank": worst,
    }


def slow_rank(lines: Sequence[JournalLine]) -> str | None:
    """Name a rank that the others have waited for over the last steps; None if there is none.

    Args:
        lines: lines of kind `train` of a journal.
    """
    told = [line["busy"] for line in lines[-WINDOW:] if "busy" in line]
    if len(told) < WINDOW:
        return None
    (rank, times), *_ = Counter(busy["rank"] for busy in told).most_common(1)
    of_rank = [busy for busy in told if busy["rank"] == rank]
    ratio = sum(busy["worst"] for busy in of_rank) / max(sum(busy["mean"] for busy in of_rank), 1e-9)
    if times < OFTEN * len(told) or ratio < LONGER:
        return None
    return f"rank {rank} is the slowest in {times} of the last {len(told)} steps, {ratio:.1f} times the mean"
