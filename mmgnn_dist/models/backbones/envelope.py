"""A smooth cutoff for backbones whose published form has none.

    u(x) = 1 - 28 x^6 + 48 x^7 - 21 x^8      for x = distance / cutoff below 1

goes to 0 at the cutoff, as do its first and second derivatives (Gasteiger, Groß, Günnemann: DimeNet, arXiv
2003.03123, eq. 8 with p = 6). So the output does not jump when a pair crosses the cutoff.
"""

from __future__ import annotations

from torch import Tensor


def polynomial_envelope(distance: Tensor, cutoff: float) -> Tensor:
    """Envelope u: distances [P] in Å below the cutoff -> factors [P] between 0 and 1."""
    x = distance / cutoff
    return 1 + x**6 * (-28 + x * (48 - 21 * x))
