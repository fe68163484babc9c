"""Linear CKA against the formula of HSIC, what it is for rotated and for independent features, debiased."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmgnn_dist.study.statistics.cka import debiased_cka, linear_cka, without_composition


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


def unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """HSIC as a U-statistic by its definition: sums over all quadruples of different molecules (n small)."""
    n, total, count = len(k), 0.0, 0
    for a, b, c, d in itertools.permutations(range(n), 4):
        total += k[a, b] * (m[a, b] + m[c, d] - 2.0 * m[a, c])
        count += 1
    return total / count


def test_debiased_equals_the_sum_over_quadruples():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))
    y[:, 0] += x[:, 1]
    k, m = x @ x.T, y @ y.T
    expected = unbiased_hsic(k, m) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    assert debiased_cka(x, y) == pytest.approx(expected, abs=1e-10)
    assert debiased_cka(x, 3.0 * x + 1.0) == pytest.approx(1.0)


def test_independent_features_have_none_once_debiased():
    rng = np.random.default_rng(2)
    pairs = [(rng.standard_normal((150, 96)), rng.standard_normal((150, 64))) for _ in range(30)]
    plain, debiased = ([f(x, y) for x, y in pairs] for f in (linear_cka, debiased_cka))
    assert min(plain) > 0.25  # what width and number of molecules alone give
    assert abs(np.mean(debiased)) < 4 * np.std(debiased) / np.sqrt(30) and np.std(debiased) < 0.05


def test_what_composition_and_size_explain_is_off():
    """Two networks that know nothing but formula and size agree in plain CKA, and in nothing else."""
    rng = np.random.default_rng(3)
    atoms = rng.poisson([9.0, 6.0, 1.0, 1.0], (400, 4))
    atoms[:, :2] += 1
    known = np.hstack([atoms, atoms / atoms.sum(1, keepdims=True)])
    x, y = (known @ rng.standard_normal((8, 16)) + 0.3 * rng.standard_normal((400, 16)) for _ in range(2))
    assert debiased_cka(x, y) > 0.5
    left = [without_composition(v, np.pad(atoms, [(0, 0), (1, 3)])) for v in (x, y)]
    assert abs(debiased_cka(*left)) < 0.05
    np.testing.assert_allclose(known.T @ left[0], 0.0, atol=1e-8)
