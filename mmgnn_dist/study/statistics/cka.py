"""Linear CKA: similarity of two representations of the same molecules.

Kornblith et al. 2019 (arXiv 1905.00414):

    CKA(X, Y) = |Y' X|^2 / (|X' X| |Y' Y|),  columns centred, Frobenius norms

It is 1 for representations that differ only by a rotation, a shift and a scale. For independent
representations it is not 0 but depends on their widths and the number of molecules. `debiased_cka` takes
this off with the unbiased estimator of HSIC (Song et al. 2012, Journal of Machine Learning Research 13,
equation 5; Nguyen, Raghu and Kornblith 2020, arXiv 2010.15327): it is 0 on average for independent
representations.

Representations of different networks are alike already because both know composition and size, trained or
not. `without_composition` takes off what a linear fit on them explains.
"""

from __future__ import annotations

import numpy as np


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Compute linear CKA of two representations [n, p] and [n, q] of the same molecules."""
    x, y = _centred(x), _centred(y)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def debiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Compute linear CKA with the unbiased estimator of HSIC, for [n, p] and [n, q] with n > 3."""
    k, m = (_kernel(values) for values in (x, y))
    scale = _unbiased_hsic(k, k) * _unbiased_hsic(m, m)
    return _unbiased_hsic(k, m) / float(np.sqrt(scale)) if scale > 0 else float("nan")


def without_composition(x: np.ndarray, composition: np.ndarray) -> np.ndarray:
    """Residuals of a linear fit on composition and size.

    Args:
        x: a representation [n, p].
        composition: atoms of each element [n, E]; their sum is the size, and the shares of the elements are
        fitted
            too, since vectors are means over atoms.
    """
    used = composition[:, composition.any(axis=0)]
    size = np.maximum(used.sum(axis=1, keepdims=True), 1.0)
    known = np.hstack([np.ones_like(size), used, used / size])
    x = np.asarray(x, np.float64)
    return x - known @ np.linalg.lstsq(known, x, rcond=None)[0]


def _kernel(x: np.ndarray) -> np.ndarray:
    """Linear kernel of the molecules [n, n], with a zero diagonal."""
    x = _centred(x)
    kernel = x @ x.T
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Unbiased estimator of HSIC of two kernels with zero diagonals."""
    n = len(k)
    trace, rows = np.sum(k * m), float(k.sum(0) @ m.sum(0))
    total = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float((trace + total - 2.0 * rows / (n - 2)) / (n * (n - 3)))


def _centred(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x - x.mean(0)
