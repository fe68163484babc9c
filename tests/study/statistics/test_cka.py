"""Linear CKA against the formula of HSIC, and what it is for rotated and for independent features."""

from __future__ import annotations

import numpy as np
import pytest

from mmgnn_dist.study.statistics.cka import linear_cka, permutation_baseline


def hsic_cka(x: np.ndarray, y: np.ndarray) -> float:
    """CKA by its definition, HSIC(K, L) = tr(K H L H) of the n x n kernel matrices (Gretton et al. 2005)."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        return float(np.trace(k @ centre @ m @ centre))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize(("n", "p", "q"), [(50, 8, 8), (200, 64, 16), (30, 100, 3)])
def test_equals_the_definition(n, p, q):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((n, p)) + 3.0, rng.standard_normal((n, q)) * 7.0
    y[:, :3] += x[:, :3]
    assert linear_cka(x, y) == pytest.approx(hsic_cka(x, y), abs=1e-10)
    assert 0.05 < linear_cka(x, y) < 0.999


def test_is_one_for_a_rotation_a_shift_and_a_scale():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 24)) * np.arange(1, 25)
    rotation, _ = np.linalg.qr(rng.standard_normal((24, 24)))
    assert linear_cka(x, 5.0 * x @ rotation - 2.0) == pytest.approx(1.0, abs=1e-12)
    skewed = x @ rng.standard_normal((24, 24))
    assert linear_cka(x, skewed) < 0.99


def test_independent_features_are_what_chance_gives():
    rng = np.random.default_rng(2)
    far = []
    for _ in range(20):
        x, y = rng.standard_normal((400, 64)), rng.standard_normal((400, 48))
        mean, spread = permutation_baseline(x, y)
        far.append(abs(linear_cka(x, y) - mean) / spread)
    assert max(far) < 3.0
    related = y + 0.5 * x[:, :48]
    mean, spread = permutation_baseline(x, related)
    assert linear_cka(x, related) > mean + 10 * spread
