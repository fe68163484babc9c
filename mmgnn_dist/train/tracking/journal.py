"""The journal of a run: its authoritative record, one JSON object a line.

Kinds of lines: `start` and `resume` (versions, world size), `train` (one a step), `skipped` (instead of
`train`, for a step that was not finite), `direct` (tables of radial functions are given up), `validation`,
`system` (memory and processor, some seconds apart), `tracker` (W&B has failed and gets no more lines of this
start), `end`. A run that continues from step N first drops the lines of later steps, since these steps run
again. The journal therefore has every step once, and every restart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any, cast

from mmgnn_dist.files import write_text
from mmgnn_dist.run_records import JournalLine

STEPPED = ("train", "skipped", "direct", "validation", "system", "end")


def read_journal(path: Path) -> list[JournalLine]:
    """Read all complete lines of a journal; a last line truncated by a crash is left out."""
    lines: list[JournalLine] = []
    if Path(path).is_file():
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return lines


class Journal:
    """Appends lines to a journal, and flushes each at once for other readers."""

    def __init__(self, path: Path, step: int) -> None:
        """Open the journal of a run at `step` and drop the lines of later steps."""
        lines = [line for line in read_journal(path) if line["kind"] not in STEPPED or line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        self.lines = lines
        self._file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()

    def write(self, kind: str, **fields: Any) -> JournalLine:
        """Append one line and return it."""
        line = cast(JournalLine, {"kind": kind, **fields})
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self.lines.append(line)
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()
