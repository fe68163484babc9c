"""The journal of a run: its authoritative record, one JSON object a line.

Kinds of lines: `start` and `resume` (versions, world size), `train` (one a step), `skipped` (instead of
`train`, for a step that was not finite), `direct` (tables of radial functions are given up), `validation`,
`system` (memory and processor, some seconds apart), `tracker` (W&B has failed and gets no more lines of this
start), `end`. A run that continues from step N first drops the lines of later steps, since these steps run
again. The journal therefore has every step once, and every restart. Every line carries a hash (see `chain`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from mmgnn_dist.files import write_text
from mmgnn_dist.run_records import JournalLine, Lost
from mmgnn_dist.train.tracking.chain import chained, read_chain, rewound

STEPPED = ("train", "skipped", "direct", "validation", "system", "end")


def journal_texts(path: Path) -> list[str]:
    """Read the lines of a journal as they are written; a last line truncated by a crash is left out."""
    if not Path(path).is_file():
        return []
    *texts, last = Path(path).read_text(encoding="utf-8", errors="backslashreplace").split("\n")
    return [*texts, last] if parsed(last) else texts


def parsed(text: str) -> JournalLine | None:
    """Parse one line of a journal; None if it is damaged."""
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    good = isinstance(line, dict) and isinstance(line.get("kind"), str) and isinstance(line.get("step"), int)
    return cast(JournalLine, line) if good else None


def read_journal(path: Path) -> list[JournalLine]:
    """Read all lines of a journal; damaged lines are left out ('mmgnn verify' names them)."""
    return [line for line in map(parsed, journal_texts(path)) if line is not None]


def _lost(found: Sequence[JournalLine | None], step: int, idle: float) -> Lost:
    """What a run loses that continues from `step`, `idle` seconds after its last line."""
    steps = [line for line in found if line is not None and line["kind"] == "train"]
    last = steps[-1].get("seconds", 0.0) if steps else 0.0
    kept = max((line.get("seconds", 0.0) for line in steps if line["step"] <= step), default=0.0)
    repeated = sum(line["step"] > step for line in steps)
    return {"steps": repeated, "seconds": round(max(last - kept, 0.0), 3), "idle": round(max(idle, 0.0), 1)}


class Journal:
    """Appends lines to a journal, and flushes each at once for other readers.

    It keeps no lines: a run of a million steps has some hundred megabytes of them.

    Attributes:
        step: step of the last line, 0 without any.
        head: hash of the last line, which covers all lines; the next line covers it.
        lost: what the interruption before this opening cost; None for a new journal.
    """

    def __init__(self, path: Path, step: int) -> None:
        """Open the journal of a run at `step` and drop the lines of later steps."""
        texts = journal_texts(path)
        found = [parsed(text) for text in texts]
        self.lost = _lost(found, step, time.time() - path.stat().st_mtime) if texts else None
        kept = [line is None or line["kind"] not in STEPPED or line["step"] <= step for line in found]
        texts, self.head = rewound(read_chain(texts), kept)
        write_text(path, "".join(text + "\n" for text in texts))
        steps = [line["step"] for line, stays in zip(found, kept, strict=True) if line is not None and stays]
        self.step = steps[-1] if steps else 0
        self._file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()

    def write(self, kind: str, **fields: Any) -> JournalLine:
        """Append one line and return it, without its hash."""
        line = cast(JournalLine, {"kind": kind, **fields})
        text, self.head = chained(self.head, line)
        self._file.write(text + "\n")
        self._file.flush()
        self.step = line["step"]
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()
