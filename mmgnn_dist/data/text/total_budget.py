"""One budget for the joined text of a molecule: whole fields are left out until the rest fits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def fitting_fields(lengths: Mapping[str, np.ndarray], room: int) -> dict[str, np.ndarray]:
    """Which fields each molecule reads so that its text fits: bool [rows] for each field.

    A field that does not fit alone is left out. Of the others the last ones are left out until the rest
    fits.

    Args:
        lengths: tokens of each field, int64 [rows], in the order in which the fields are joined; 0 where a
            molecule has none.
        room: tokens that all fields together may have.
    """
    reads = {field: length <= room for field, length in lengths.items()}
    total = sum((np.where(reads[field], length, 0) for field, length in lengths.items()), np.int64(0))
    for field in reversed(list(lengths)):
        left_out = reads[field] & (total > room) & (lengths[field] > 0)
        total = total - np.where(left_out, lengths[field], 0)
        reads[field] = reads[field] & ~left_out
    return reads
