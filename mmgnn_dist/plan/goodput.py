"""How often to write checkpoints, and which share of the time is progress: `mmgnn plan --mtbf HOURS`.

A job fails on average every M seconds: the mean time between failures of a node over the number of nodes.
A checkpoint takes d seconds, a restart R. Seconds of work between two checkpoints:

    Young 1974   sqrt(2 d M)
    Daly 2006    sqrt(2 d M) (1 + sqrt(d / 2 M) / 3 + d / 18 M) - d if d < 2 M, else M

(J. W. Young, CACM 17, 530; J. T. Daly, FGCS 22, 303, equation 37.) With tau seconds of work between two
checkpoints the whole run takes M exp(R / M) (exp((tau + d) / M) - 1) / tau seconds for each second of work
(Daly, equation 20); the goodput is the inverse of it.
"""

from __future__ import annotations

import math

from mmgnn_dist.plan.records import GoodputPlan

DISK = 1e9  # bytes/s that all ranks together write to a parallel file system; assumed
RESTART = 300.0  # seconds until the next step after a failure: queue, start, reading; assumed
NODE_GPUS = 8  # GPUs of a node; assumed


def young_period(checkpoint: float, mtbf: float) -> float:
    """Return Young's period in seconds, from the seconds of a checkpoint and between failures."""
    return math.sqrt(2 * checkpoint * mtbf)


def daly_period(checkpoint: float, mtbf: float) -> float:
    """Return Daly's period of checkpoints in seconds; arguments as of `young_period`."""
    if checkpoint >= 2 * mtbf:
        return mtbf
    ratio = math.sqrt(checkpoint / (2 * mtbf))
    return young_period(checkpoint, mtbf) * (1 + ratio / 3 + ratio**2 / 9) - checkpoint


def expected_goodput(period: float, checkpoint: float, restart: float, mtbf: float) -> float:
    """Return the share of the time that is progress, 0 to 1; all arguments in seconds."""
    if restart + period + checkpoint > 700 * mtbf:  # exp is no number of float64, and no run would end
        return 0.0
    return period / (mtbf * math.exp(restart / mtbf) * math.expm1((period + checkpoint) / mtbf))


def plan_goodput(
    hours: float, world: int, checkpoint_bytes: int, seconds_per_step: float | None, every: int
) -> GoodputPlan:
    """Plan the checkpoints of a run.

    Args:
        hours: mean time between failures of one node, in hours.
        world: number of GPUs.
        checkpoint_bytes: bytes of a checkpoint of all ranks.
        seconds_per_step: time of a step; None: not known, so the period is in seconds alone.
        every: steps between two checkpoints in the recipe.
    """
    nodes = math.ceil(world / NODE_GPUS)
    mtbf, checkpoint = hours * 3600 / nodes, checkpoint_bytes / DISK
    period = daly_period(checkpoint, mtbf)
    return {
        "nodes": nodes,
        "seconds_between_failures": mtbf,
        "seconds_of_checkpoint": checkpoint,
        "seconds_of_restart": RESTART,
        "young": young_period(checkpoint, mtbf),
        "daly": period,
        "goodput": expected_goodput(period, checkpoint, RESTART, mtbf),
        "checkpoint_every": max(1, round(period / seconds_per_step)) if seconds_per_step else None,
        "goodput_of_recipe": (
            expected_goodput(every * seconds_per_step, checkpoint, RESTART, mtbf)
            if seconds_per_step
            else None
        ),
        "assumed": (
            f"{NODE_GPUS} GPUs a node, {DISK / 1e9:g} GB/s to the disk of all ranks together, "
            f"{RESTART:g} s from a failure to the next step"
        ),
    }
