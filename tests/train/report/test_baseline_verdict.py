from __future__ import annotations

from math import nan

import pytest

from mmgnn_dist.train.report.baseline_verdict import baseline_verdict


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ({"gap": 0.4, "mu": 0.99}, "on all targets."),
        ({"gap": 0.4, "mu": nan}, "on gap."),
        (
            {"gap": 3.1, "mu": 1.0},
            "No model beats the baselines (mean, linear fit on composition): gap (310 % of",
        ),
        ({"gap": 0.4, "mu": 1.25}, "on 1 of 2 targets, and not on mu (125 % of the better one)"),
        ({"gap": nan}, "is not known"),
    ],
)
def test_the_verdict_says_where_no_model_beats_the_baselines(shares, says):
    assert says in baseline_verdict(shares)


def test_a_model_that_does_not_beat_the_baselines_is_told_beside_one_that_does():
    best = {"gap": 0.4, "homo": 0.83, "mu": 1.1}
    said = baseline_verdict(best, {"gap": 0.9, "homo": 1.19, "mu": 1.3})
    assert "on 2 of 3 targets, and not on mu (110 %" in said
    assert "Not every model does on homo (119 % of the better one): a difference from" in said
    assert "Not every" not in baseline_verdict({"gap": 0.4}, {"gap": nan})
