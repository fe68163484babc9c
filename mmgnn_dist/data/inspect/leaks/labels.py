"""Labels that repeat: far fewer distinct ones than molecules, or whole rows of labels that several share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmgnn_dist.data.inspect.leaks.content import Content
from mmgnn_dist.data.inspect.leaks.finding import Finding, first_examples

FEW = 2.0  # distinct labels, in square roots of the number of molecules
LEAST = 100  # molecules
SHARED = 0.002  # share of molecules that may have all labels in common with another one
FEW_KIND, SHARED_KIND = "few distinct labels", "labels of another molecule"


def repeated_labels(content: Content) -> Iterator[Finding]:
    """Yield a finding for each target with few values, and one for rows of labels that repeat."""
    for column, target in enumerate(content.shards.targets):
        rows = np.flatnonzero(np.isfinite(content.y[:, column]))
        values, first = np.unique(content.y[rows, column], return_index=True)
        discrete = content.shards.kinds[target] == "class"
        if len(rows) >= LEAST and len(values) < FEW * np.sqrt(len(rows)) and not discrete:
            yield Finding(
                FEW_KIND,
                "doubt",
                f"{target} has {len(values)} values",
                len(rows),
                len(rows),
                first_examples(content.ids[rows[np.sort(first)]]),
                "see whether a label was copied to many molecules; classes are declared as kind: class",
            )
    yield from _shared_rows(content)


def _shared_rows(content: Content) -> Iterator[Finding]:
    varying = [
        column
        for column in range(content.y.shape[1])
        if len(np.unique(content.y[:, column])) >= FEW * np.sqrt(len(content.y))
    ]
    rows = np.flatnonzero(np.isfinite(content.y[:, varying]).sum(axis=1) >= 2)
    if len(varying) < 2 or not len(rows):
        return
    _, group, sizes = np.unique(content.y[rows][:, varying], axis=0, return_inverse=True, return_counts=True)
    twice = rows[sizes[group.ravel()] > 1]
    if len(twice) > max(2, SHARED * len(rows)):
        yield Finding(
            SHARED_KIND,
            "fault",
            ", ".join(content.shards.targets[column] for column in varying),
            len(twice),
            len(rows),
            first_examples(content.ids[twice]),
            "remove the copies, or see whether a join gave one row to many molecules",
        )
