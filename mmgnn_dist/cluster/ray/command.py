"""Which Slurm job a command works in, and why it stopped: `mmgnn data prepare`, `sweep`, `study --ray`.

Such a command is no submitted run: `sbatch` starts it, on Ray, in an allocation (`slurm/ray.sbatch`). So it
leaves a note beside its output, `TO.job.json`, from which `mmgnn status`, `logs` and `cancel` know it. The
note is locked while the command works, and goes when the output is complete.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, TypedDict

NOTE = ".job.json"  # end of the name of a note
CommandKind = Literal["preparation", "sweep", "study"]


class CommandNote(TypedDict):
    """A note: kind of the work, its job and start, log of the job, and why the command stopped."""

    kind: CommandKind
    job: str
    restart: int
    log: str | None
    stopped: str  # "" while it works, and if it was killed


def note_of(output: Path) -> Path:
    """Return the path of the note beside an output."""
    return output.with_name(output.name + NOTE)


@contextmanager
def noted_command(output: Path, kind: CommandKind) -> Iterator[Callable[[str], None]]:
    """Note that this process works on an output in a Slurm job; outside of a job nothing is noted.

    Yields:
        A function that notes why the command stops before the output is complete. An error is noted anyway.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        yield lambda words: None
        return
    path = note_of(output.resolve())
    file = _open(path)
    if file is None:
        yield lambda words: None
        return
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    note: CommandNote = {"kind": kind, "job": job, "restart": restart, "log": _log(job), "stopped": ""}

    def stop(words: str) -> None:
        note["stopped"] = " ".join(words.split())
        file.truncate(0)
        json.dump(note, file)
        file.flush()

    with file:
        stop("")
        try:
            yield stop
        except KeyboardInterrupt:
            stop("stopped by a signal: the same command continues")
            raise
        except Exception as error:
            stop(str(error) or type(error).__name__)
            raise
        if not note["stopped"]:
            path.unlink(missing_ok=True)


def _open(path: Path) -> IO[str] | None:
    """Open and lock a note; None where that cannot be, of which the command itself will speak."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process works on the same output
        file.close()
        return None
    return file


def read_note(path: Path) -> CommandNote | None:
    """Read a note; None if there is none, or it is being written."""
    with suppress(OSError, ValueError):
        note: CommandNote = json.loads(path.read_text())
        return note
    return None


def _log(job: str) -> str | None:
    """Return the file to which the job writes; None if it is a terminal, or Slurm does not say."""
    with suppress(OSError, subprocess.TimeoutExpired):
        words = ("scontrol", "-o", "show", "job", job)
        shown = subprocess.run(words, check=False, capture_output=True, text=True, timeout=20).stdout
        if " StdErr=" in shown:
            return shown.partition(" StdErr=")[2].split(" ")[0].strip()
    return None
