"""Molecules that were set aside: what is said of them, and how many are too many."""

from __future__ import annotations

import pyarrow as pa

from mmgnn_dist.chem.checks import DUPLICATE, EXCLUDED
from mmgnn_dist.chem.readers.source import printable
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord
from mmgnn_dist.data.shardset.manifest import MoleculeCounts
from mmgnn_dist.errors import WrongInput

QUARANTINE = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


def reasons_in_words(counts: MoleculeCounts) -> str:
    """Return how many molecules were set aside for each reason."""
    return ", ".join(f"{number} {reason}" for reason, number in counts["reasons"].items())


def refuse_bad(counts: MoleculeCounts, most: float, records: list[ChunkRecord]) -> None:
    """Refuse a set with no molecule left or too many bad ones.

    Args:
        counts: counts of all molecules.
        most: largest fraction of bad molecules; those that their data set advises against are not bad.
        records: the records of the chunks, in order.

    Raises:
        WrongInput: the message gives the reasons, and the first molecule that was set aside.
    """
    bad = counts["set_aside"] - counts["reasons"].get(EXCLUDED, 0)
    reasons = reasons_in_words(counts) + _example(records)
    if not counts["kept"]:
        raise WrongInput(f"no molecule is left of {counts['in']}: {reasons}")
    if bad > most * counts["in"]:
        again = counts["reasons"].get(DUPLICATE, 0)
        cure = "; make the ids differ, or leave them out" if 2 * again > bad else ""
        raise WrongInput(
            f"{bad} of {counts['in']} molecules are bad, more than data.max_bad_fraction={most:g} allows: "
            f"{reasons}{cure}"
        )


def _example(records: list[ChunkRecord]) -> str:
    """Show the first molecule that was set aside and of which there is something to say, else nothing."""
    rows = [row for record in records for row in record["quarantine"] if row["detail"]]
    return f" (the first, {rows[0]['id']}: {printable(rows[0]['detail'])})" if rows else ""
