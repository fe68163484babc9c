"""Linear CKA: similarity of two representations of the same molecules.

Kornblith et al. 2019 (arXiv 1905.00414):

    CKA(X, Y) = |Y' X|^2 / (|X' X| |Y' Y|),  columns centred, Frobenius norms

It is 1 for representations that differ only by a rotation, a shift and a scale. For independent
representations it is not 0 but depends on their widths and the number of molecules; the baseline estimates
this value by shuffling the molecules of one representation.
"""

from __future__ import annotations

import numpy as np


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Compute linear CKA of two representations [n, p] and [n, q] of the same molecules."""
    x, y = _centred(x), _centred(y)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def permutation_baseline(
    x: np.ndarray, y: np.ndarray, repeats: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of the CKA of `x` with `y` of shuffled molecules over `repeats` draws."""
    x, y = _centred(x), _centred(y)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    generator = np.random.default_rng(seed)
    drawn = [np.linalg.norm(y[generator.permutation(len(y))].T @ x) ** 2 / scale for _ in range(repeats)]
    return float(np.mean(drawn)), float(np.std(drawn, ddof=1))


def _centred(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x - x.mean(0)
