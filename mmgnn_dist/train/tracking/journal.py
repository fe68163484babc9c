"""The journal of a run: one JSON object a line, the truth about what happened.

Kinds: `start` and `resume` (versions, world size), `train` (one a step), `skipped`
(instead of `train`, for a step that was not finite), `validation`, `system` (memory and processor, some
seconds apart), `end`. A run that
continues from step N first drops the lines of later steps, since these steps are run again: every step
stands in the journal once, and every restart stands too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any, cast

from mmgnn_dist.files import write_text
from mmgnn_dist.run_records import JournalLine

STEPPED = ("train", "skipped", "validation", "system", "end")


def read_journal(path: Path) -> list[JournalLine]:
    """All complete lines of a journal; a last line that a crash cut is left out."""
    lines: list[JournalLine] = []
    if Path(path).is_file():
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return lines


class Journal:
    """Append lines; flushed at once, so that others can follow."""

    def __init__(self, path: Path, step: int) -> None:
        """Open the journal for a run that stands at `step`."""
        kept = [line for line in read_journal(path) if line["kind"] not in STEPPED or line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.lines = kept
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
