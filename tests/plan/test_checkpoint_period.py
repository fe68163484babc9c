"""Period of checkpoints and goodput beside the formulas of Young and Daly, and beside simulated failures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmgnn_dist.plan.goodput import daly_period, expected_goodput, plan_goodput, young_period


def test_periods_are_those_of_the_formulas():
    """Worked out by hand: d = 60 s, M = 7,200 s, so that 2 d M = 864,000 s^2 and d / 2 M = 1 / 240."""
    assert young_period(60, 7200) == pytest.approx(929.516)
    root = 0.0645497  # of 1 / 240
    assert daly_period(60, 7200) == pytest.approx(929.516 * (1 + root / 3 + 1 / 2160) - 60, rel=1e-5)
    assert daly_period(60, 20) == 20  # a checkpoint takes longer than machines live


def test_the_period_is_the_best_one():
    """Daly's period loses less than a ten-thousandth against the best of a fine grid."""
    found = expected_goodput(daly_period(60, 7200), 60, 300, 7200)
    best = max(expected_goodput(period, 60, 300, 7200) for period in np.arange(200, 4000, 5.0))
    assert best - 1e-4 < found <= best + 1e-9
    assert expected_goodput(1e9, 60, 300, 7200) == 0.0


def test_goodput_is_that_of_simulated_failures():
    """Failures at random (exponential) times, also within checkpoints and restarts."""
    period, checkpoint, restart, mtbf = 900.0, 60.0, 300.0, 3600.0
    draw, clock, done, fails = np.random.default_rng(0), 0.0, 0, 0.0
    fails = draw.exponential(mtbf)
    while done < 20_000:
        if clock + period + checkpoint <= fails:
            clock, done = clock + period + checkpoint, done + 1
            continue
        clock, fails = fails, fails + draw.exponential(mtbf)
        while clock + restart > fails:
            clock, fails = fails, fails + draw.exponential(mtbf)
        clock += restart
    assert expected_goodput(period, checkpoint, restart, mtbf) == pytest.approx(
        done * period / clock, rel=0.01
    )


def test_a_plan_has_the_period_in_steps():
    """64 GPUs are 8 nodes; 16 GB at the assumed 1 GB/s take 16 s."""
    found = plan_goodput(10_000, 64, 16 * 10**9, 0.5, 500)
    assert found["nodes"] == 8 and found["seconds_between_failures"] == 10_000 * 3600 / 8
    assert found["young"] == pytest.approx(math.sqrt(2 * 16 * 4.5e6))
    assert found["checkpoint_every"] == round(found["daly"] / 0.5)
    assert 0.99 < found["goodput_of_recipe"] * 266 / 250 < 1.0 < found["goodput"] + 0.01
    unknown = plan_goodput(10_000, 64, 16 * 10**9, None, 500)
    assert unknown["checkpoint_every"] is None and unknown["goodput"] == found["goodput"]
