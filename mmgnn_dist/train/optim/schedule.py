"""Learning rates and random numbers, which depend only on the step.

They have no state, so a run that continues at step N needs only N.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from mmgnn_dist.config import OptimConfig, TrainConfig


def total_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Return the optimiser steps of a whole run without early stop."""
    steps = config.epochs * steps_per_epoch
    return steps if config.max_steps is None else min(steps, config.max_steps)


def lr_factor(step: int, total: int, config: OptimConfig) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then cosine decay to `final_lr`.

    Args:
        step: 0-based step.
        total: steps of the whole run.
        config: warm-up and final rate, as shares.
    """
    warm = round(config.warmup * total)
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(1, total - warm)
    return config.final_lr + (1.0 - config.final_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))


def learning_rate(group: dict[str, Any], step: int, total: int, config: OptimConfig) -> float:
    """Return the learning rate of a parameter group at a step: a share of `peak`, or 0 before its start.

    Before its start a group keeps its weights to the bit, since AdamW scales weight decay by the rate too.
    Its gradients are computed, reduced and included in the clipping, and its moments build up from the first
    step. All ranks and steps therefore use the same parameters, and the moments are well averaged at the
    first update.

    Args:
        group: parameter group with `peak`, and `start`, the share of the run before its first update.
        step: as in `lr_factor`.
        total: as in `lr_factor`.
        config: as in `lr_factor`.
    """
    return group["peak"] * lr_factor(step, total, config) if step >= group["start"] * total else 0.0


def ema_decay(step: int, config: OptimConfig) -> float:
    """Return the decay of the averaged weights at a step; it starts lower, so that initial weights fade."""
    return min(config.ema, (1.0 + step) / (10.0 + step))


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators for a step of a rank, so that dropout is the same after a restart."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(2, np.uint32)
    torch.manual_seed(int(state[0]) << 32 | int(state[1]))
