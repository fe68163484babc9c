"""Goodput of a run: the share of its time that was progress, and where the rest went, from its journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from mmgnn_dist.run_records import JournalLine

STARTS = ("start", "resume")


class Goodput(TypedDict):
    """Shares of the time from the first start to the last line of the journal; they add up to 1."""

    training: float  # the steps that the run stands on
    repeated: float  # steps that were lost and run again
    waiting: float  # from the last line before an interruption to the next start: queue, imports, reading
    between: float  # validations, checkpoints that a step waited for, and the first start


def goodput(lines: Sequence[JournalLine], end: float) -> Goodput | None:
    """Divide the time of a run.

    Args:
        lines: the journal.
        end: when its last line was written, s since 1970.

    Returns:
        The shares; None before the first step, and for journals of earlier versions, without times.
    """
    starts = [line for line in lines if line["kind"] in STARTS]
    steps = [line for line in lines if line["kind"] == "train"]
    if not steps or not all("time" in line for line in starts):
        return None
    lost = [line["lost"] for line in starts if "lost" in line]
    parts = {
        "training": steps[-1]["seconds"],
        "repeated": sum(one["seconds"] for one in lost),
        "waiting": sum(one["idle"] for one in lost),
    }
    known = sum(parts.values())
    wall = max(end - starts[0]["time"], known)
    if not wall:
        return None
    return {
        "training": parts["training"] / wall,
        "repeated": parts["repeated"] / wall,
        "waiting": parts["waiting"] / wall,
        "between": (wall - known) / wall,
    }
