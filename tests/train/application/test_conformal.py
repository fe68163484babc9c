"""Split-conformal radii: the definition on small numbers, and coverage of made errors."""

from __future__ import annotations

import numpy as np
import pytest

from mmgnn_dist.models.heads import Heads
from mmgnn_dist.train.application.conformal import calibrate, conformal_radius, interval_quality
from mmgnn_dist.train.evaluate import Predictions


def test_a_radius_is_the_error_at_its_place():
    """Of 9 errors the interval of 90 % needs the ninth, that of 95 % the tenth, which is not there."""
    errors = np.array([5.0, 1, 9, 3, 7, 2, 8, 4, 6])
    assert conformal_radius(errors, 0.9) == 9
    assert conformal_radius(errors, 0.5) == 5
    assert conformal_radius(errors, 0.95) == np.inf
    assert conformal_radius(np.zeros(0), 0.5) == np.inf


def made(rng: np.random.Generator, count: int) -> Predictions:
    """A number with errors of heavy tails and gaps, and a class of three with honest probabilities."""
    true = rng.normal(size=(count, 2))
    predicted = true + rng.standard_t(3, size=true.shape)
    true[::7, 0] = np.nan
    probabilities = rng.dirichlet([1, 1, 1], count)
    true[:, 1] = (probabilities.cumsum(1) < rng.random((count, 1))).sum(1)
    predicted[:, 1] = probabilities.argmax(1)
    heads = Heads(((), ("a", "b", "c")))
    return Predictions(np.arange(count), true, predicted, None, {}, heads, {1: probabilities})


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_intervals_and_sets_cover_as_often_as_they_say(level):
    rng = np.random.default_rng(0)
    units = {"gap": "eV", "kind": ""}
    calibration = calibrate(made(rng, 4000), list(units))
    assert calibration["gap"]["molecules"] == 4000 - len(range(0, 4000, 7))
    found = interval_quality(made(rng, 4000), units, calibration, level)
    assert found["gap"].coverage == pytest.approx(level, abs=0.02)
    assert found["kind"].coverage == pytest.approx(level, abs=0.02)
    assert 1 < found["kind"].width < 3 and found["kind"].unit == "classes"


@pytest.mark.slow
def test_radii_are_those_of_crepes():
    """An interval of crepes about zero has our radius.

    Where (n + 1) level is whole, crepes takes the next place if 1 - level is rounded down (0.8, 0.9).
    """
    from crepes import ConformalRegressor

    rng = np.random.default_rng(0)
    tried = [(count, level) for count in (20, 137, 1001) for level in (0.5, 0.8, 0.9, 0.95)]
    for count, level in [*tried, (19, 0.5), (19, 0.75)]:
        errors = rng.standard_t(3, size=count)
        oracle = ConformalRegressor().fit(residuals=errors)
        low, high = oracle.predict_int(np.zeros(1), confidence=level)[0]
        radius = conformal_radius(np.abs(errors), level)
        assert (-low, high) == (pytest.approx(radius), pytest.approx(radius)), (count, level)
