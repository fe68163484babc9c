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
