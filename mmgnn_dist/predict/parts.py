"""The parts of an output in progress, in `OUT.partial` beside it; each is complete or absent.

OUT.partial/job.json            what decides the output: another job starts anew
OUT.partial/part-00000.csv      rows of a portion
OUT.partial/part-00000.json     what is counted of it, and its SHA-256; written last
OUT.partial/schema.arrow        the columns of the output
OUT.partial/text-0.arrow        a table of `--text`
OUT.partial/work-1/             files of the portion that a process works on
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmgnn_dist.errors import DamagedFile, UserError
from mmgnn_dist.files import atomic_path, is_staging, lock_file, read_sealed, sha256, write_sealed
from mmgnn_dist.predict.outputs import join_parts, write_part

if TYPE_CHECKING:
    from mmgnn_dist.predict.predictor import PortionRecord, PredictedPortion

KIND = "mmgnn-prediction"
SCHEMA = "schema.arrow"
BESIDE = ("part-*", SCHEMA, "text-*.arrow", "work-*")  # names beside those of the lock and the job


class Parts:
    """The parts of one output.

    Args:
        out: the output.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(f"{out.name}.partial")

    @contextmanager
    def opened(self, job: str) -> Iterator[bool]:
        """Lock the folder while a job is done; remove it when it is done, or has done nothing.

        Args:
            job: what decides the output.

        Yields:
            Whether parts of another job were removed.

        Raises:
            UserError: another process writes this output, or something else is in the way.
        """
        about, own = self.folder / "job.json", {"kind": KIND, "job": job}
        if self.folder.exists() and not is_staging(self.folder, about.name, BESIDE):
            raise UserError(f"{self.folder} is in the way and not ours: remove it or choose another -o")
        made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            lock = lock_file(self.folder / "lock")
        except BlockingIOError:
            raise UserError(f"another process is writing {self.out}: wait for it") from None
        with lock:
            left = any(path.name != "lock" for path in self.folder.iterdir())
            stale = left and not self._continues(own)
            if stale:
                self._remove_files(keep=("lock",))
            write_sealed(about, own)
            try:
                yield stale
            except UserError:
                if not any(self.folder.glob("part-*.json")):
                    shutil.rmtree(self.folder)
                    for path in made[1:]:
                        path.rmdir()
                raise
            shutil.rmtree(self.folder)

    def _continues(self, own: dict[str, str]) -> bool:
        """Whether the parts are of this job; where its file is damaged or lost that cannot be known."""
        if not (self.folder / "job.json").is_file():
            return False
        try:
            return bool(read_sealed(self.folder / "job.json") == own)
        except DamagedFile:
            return False

    def _remove_files(self, keep: Sequence[str]) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in keep:
                path.unlink()

    def part(self, number: int) -> Path:
        """The rows of a portion."""
        return self.folder / f"part-{number:05d}{self.out.suffix}"

    def _record(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.json"

    def work(self, process: int) -> Path:
        """Folder for the files of one process."""
        return self.folder / f"work-{process}"

    def is_done(self, number: int) -> bool:
        """Whether a portion is complete, and as it was written."""
        if not self._record(number).is_file() or not self.part(number).is_file():
            return False
        try:
            return bool(sha256(self.part(number)) == read_sealed(self._record(number))["sha256"])
        except DamagedFile:
            return False

    def write(self, number: int, found: PredictedPortion) -> None:
        """Write the rows of a portion, then its record."""
        schema = self.folder / SCHEMA
        if not schema.is_file():
            with atomic_path(schema) as part:
                part.write_bytes(found.table.schema.serialize().to_pybytes())
        write_part(self.part(number), self.out.suffix, found.table, found.raw)
        write_sealed(self._record(number), {**found.record, "sha256": sha256(self.part(number))})

    def record(self, number: int) -> PortionRecord:
        """What was counted of a portion."""
        found: PortionRecord = read_sealed(self._record(number))
        return found

    def join(self, count: int) -> None:
        """Join all parts to the output."""
        import pyarrow as pa

        def schema() -> pa.Schema:
            return pa.ipc.read_schema(pa.py_buffer((self.folder / SCHEMA).read_bytes()))

        join_parts(self.out, [self.part(number) for number in range(count)], schema)
