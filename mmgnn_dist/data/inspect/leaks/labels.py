"""Labels that repeat: far fewer distinct ones than molecules, or whole rows of labels that several share.

How many distinct labels there should be follows from their resolution (the smallest steps between them) and
their distribution. On QM9 and the bundled sample this agrees with the number that there is within a fifth.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmgnn_dist.data.inspect.leaks.content import Content
from mmgnn_dist.data.inspect.leaks.finding import AuditFinding, first_examples

FEW = 2.0  # distinct labels, in square roots of the number of molecules: fewer are suspect in any case
EXPECTED = 1.5  # times the distinct labels that may be expected
BIN = 50  # molecules in a bin of the distribution
LEAST = 100  # molecules
SHARED = 0.002  # share of molecules that may have all labels in common with another one
FEW_KIND, SHARED_KIND = "few distinct labels", "labels of another molecule"


def repeated_labels(content: Content) -> Iterator[AuditFinding]:
    """Yield a finding for each target with few values, and one for rows of labels that repeat."""
    for column, target in enumerate(content.shards.targets):
        rows = np.flatnonzero(np.isfinite(content.y[:, column]))
        if len(rows) < LEAST or content.shards.kinds[target] == "class":
            continue
        values, first = np.unique(content.y[rows, column], return_index=True)
        few = len(values) < FEW * np.sqrt(len(rows))
        if few or _expected_distinct(content.y[rows, column], values) > EXPECTED * len(values):
            yield AuditFinding(
                FEW_KIND,
                "doubt",
                f"{target} has {len(values)} values",
                len(rows),
                len(rows),
                first_examples(content.ids[rows[np.sort(first)]]),
                "see whether a label was copied to many molecules; classes are declared as kind: class",
            )
    yield from _shared_rows(content)


def _expected_distinct(labels: np.ndarray, values: np.ndarray) -> float:
    """Return how many distinct labels their resolution and distribution let expect."""
    step = float(np.quantile(np.diff(values), 0.01))
    expected = 0.0
    for part in np.array_split(np.sort(labels), max(len(labels) // BIN, 1)):
        places = (part[-1] - part[0]) / step + 1
        expected += places * -np.expm1(-len(part) / places)
    return expected


def _shared_rows(content: Content) -> Iterator[AuditFinding]:
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
        yield AuditFinding(
            SHARED_KIND,
            "fault",
            ", ".join(content.shards.targets[column] for column in varying),
            len(twice),
            len(rows),
            first_examples(content.ids[twice]),
            "remove the copies, or see whether a join gave one row to many molecules",
        )
