"""Rank correlation against scipy, with ties."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from mmgnn_dist.study.report.architectures.agreement import spearman


def test_ranks_with_ties_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (2, 20, 9)).astype(float)
    found = spearman(x, y)
    for row in range(20):
        assert found[row] == pytest.approx(spearmanr(x[row], y[row]).statistic)
    assert np.isnan(spearman(np.ones((1, 5)), np.arange(5.0)[None]))[0]
