"""Functions of an interatomic distance: cutoffs, Bessel waves, spherical Bessel functions.

Waves and cutoff: Gasteiger, Groß, Günnemann, "Directional message passing for molecular graphs", ICLR 2020
(arXiv 2003.03123), and Behler 2011. The spherical Bessel functions j_l are exact to rounding in float64
and float32. Their zeros are computed here, since tables and symbolic packages give fewer digits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SERIES_TERMS = 24  # of the power series for x < order + 1: the next term is below 1e-16 up to order 12


def cosine_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    """Cutoff (1 + cos(pi d / cutoff)) / 2: distances [P] below the cutoff -> factors [P, 1]."""
    return 0.5 * (torch.cos(distance * (math.pi / cutoff)) + 1.0).unsqueeze(-1)


def polynomial_envelope(distance: Tensor, cutoff: float) -> Tensor:
    """Envelope u of distances [P] in Å below the cutoff, for backbones whose published form has none: [P].

    u(x) = 1 - 28 x^6 + 48 x^7 - 21 x^8 of x = distance / cutoff goes to 0 at the cutoff, as do its first and
    second derivatives (DimeNet, arXiv 2003.03123, eq. 8 with p = 6). So the output does not jump when a pair
    crosses the cutoff.
    """
    x = distance / cutoff
    return 1 + x**6 * (-28 + x * (48 - 21 * x))


def spherical_bessel(order: int, x: Tensor) -> Tensor:
    """Spherical Bessel function j_l(x) for x > 0 of any shape.

    j_{l+1}(x) = (2 l + 1) / x j_l(x) - j_{l-1}(x) from j_0 = sin x / x, j_1 = j_0 / x - cos x / x. This
    recurrence loses digits for x < l, so the power series is used there:
    x^l / (2 l + 1)!! sum_k (-x^2 / 2)^k / (k! (2 l + 3) (2 l + 5) ... (2 l + 2 k + 1)).
    """
    small = x < order + 1.0
    # both branches get an argument within their domain: a NaN hidden by `where` would reach the gradient
    far, close = torch.where(small, order + 1.0, x), torch.where(small, x, 0.0)
    before, value = torch.cos(far) / far, torch.sin(far) / far
    for lower in range(order):
        before, value = value, (2 * lower + 1) / far * value - before
    half = -0.5 * close.square()
    series = torch.ones_like(x)
    for term in range(SERIES_TERMS, 0, -1):
        series = 1.0 + half / (term * (2 * order + 2 * term + 1)) * series
    series = series * close.pow(order) / float(math.prod(range(1, 2 * order + 2, 2)))
    return torch.where(small, series, value)


def bessel_zeros(orders: int, count: int) -> Tensor:
    """The first `count` positive zeros of j_0 ... j_{orders - 1}: float64 [orders, count].

    The zeros of j_0 are multiples of pi. Exactly one zero of j_l lies between two zeros of j_{l-1}; bisection
    finds it to the last digit.
    """
    zeros = math.pi * torch.arange(1, count + orders, dtype=torch.float64)
    rows = [zeros[:count]]
    for order in range(1, orders):
        low, high = zeros[:-1], zeros[1:]
        sign = torch.sign(spherical_bessel(order, low))
        for _ in range(60):
            middle = 0.5 * (low + high)
            left = torch.sign(spherical_bessel(order, middle)) == sign
            low, high = torch.where(left, middle, low), torch.where(left, high, middle)
        zeros = 0.5 * (low + high)
        rows.append(zeros[:count])
    return torch.stack(rows)
