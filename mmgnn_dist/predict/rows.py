"""What became of each row of the molecules to predict: one row of output for each, in their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgnn_dist.data.shardset.chunk_records import QuarantineRow


@dataclass(frozen=True)
class InputRows:
    """What became of each of n rows.

    Attributes:
        ids: id of each row, "" where it has none.
        kept: place among the predicted molecules, int64 [n]; -1 for a molecule that was set aside.
        reasons: why it was set aside, "" for one that was kept.
    """

    ids: list[str]
    kept: np.ndarray
    reasons: list[str]

    @classmethod
    def of(cls, count: int, ids: list[str], aside: list[QuarantineRow]) -> InputRows:
        """Put kept molecules, and those set aside at their places (`at`), into the order of their rows.

        Args:
            count: number of rows.
            ids: ids of the molecules that were kept, in their order.
            aside: the molecules that were set aside.
        """
        kept, names, reasons = np.full(count, -1), [""] * count, [""] * count
        for entry in aside:
            names[entry["at"]] = entry["id"] or ""
            reasons[entry["at"]] = ": ".join(filter(None, (entry["reason"], entry["detail"])))
        places = np.setdiff1d(np.arange(count), [entry["at"] for entry in aside])
        kept[places] = np.arange(len(ids))
        for place, name in zip(places.tolist(), ids, strict=True):
            names[place] = name
        return cls(names, kept, reasons)
