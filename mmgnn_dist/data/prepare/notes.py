"""Notes on kept molecules: what was done to them otherwise than to most, such as another force field.

They stand in `notes.parquet` beside `quarantine.parquet`; a set without notes has no such file.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord, NoteRow
from mmgnn_dist.files import atomic_path

NOTES = pa.schema([("id", pa.string()), ("source", pa.string()), ("row", pa.int64()), ("note", pa.string())])
FILE = "notes.parquet"


def write_notes(folder: Path, records: list[ChunkRecord]) -> dict[str, int]:
    """Write the notes of all chunks, if there are any.

    Args:
        folder: the folder of the set.
        records: the records of the chunks, in order.

    Returns:
        Number of molecules for each note.
    """
    notes = [note for record in records for note in record["notes"]]
    if notes:
        with atomic_path(folder / FILE) as part:
            pq.write_table(pa.Table.from_pylist([dict(note) for note in notes], schema=NOTES), part)
    return dict(sorted(Counter(note["note"] for note in notes).items()))


def note_lines(notes: dict[str, int]) -> list[str]:
    """Return the lines of the report on notes."""
    return [f"{count} molecules, {note} (see {FILE})" for note, count in notes.items()]


def note_rows(molecules: Molecules, verdict: np.ndarray, offset: int) -> list[NoteRow]:
    """Rows on the kept molecules that carry a note; `at` is their position in the chunk."""
    if molecules.note is None:
        return []
    noted = np.asarray(molecules.note.is_valid(), dtype=bool) & (verdict == 0)
    return [
        {
            "at": offset + int(index),
            "id": molecules.id[index].as_py(),
            "source": molecules.source,
            "row": int(molecules.row[index]),
            "note": molecules.note[index].as_py(),
        }
        for index in np.flatnonzero(noted)
    ]
