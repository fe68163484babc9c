"""`mmgnn status`, `logs` and `cancel` of commands that work in a Slurm job (`command.py`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from mmgnn_dist.cluster.ray.command import NOTE, CommandKind, CommandNote, note_of, read_note
from mmgnn_dist.cluster.slurm import states as slurm
from mmgnn_dist.cluster.slurm.queries import NoAnswer, must
from mmgnn_dist.cluster.slurm.status import last_line
from mmgnn_dist.data.prepare.chunks import Staging, staging_folder
from mmgnn_dist.data.shardset.shards import MANIFEST
from mmgnn_dist.errors import DamagedFile, UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.study.grid import CELLS, load_grid
from mmgnn_dist.study.run import states

COMPLETE = "COMPLETE"  # there is no note any more, since the output is there


class CommandStatus(TypedDict):
    """State and progress of a command: Slurm's state of its job, or COMPLETE; counts of what it has made."""

    output: str
    kind: CommandKind
    job: str | None
    state: str
    done: bool
    progress: dict[str, int]
    restarts: int
    log: str | None
    error: str | None


def find_commands(given: Iterable[Path], default: Iterable[Path] = ()) -> list[Path]:
    """Find outputs of commands in jobs: given ones and those below them, else those in default folders."""
    found = []
    folders = [folder.resolve() for folder in given]
    for folder in folders:
        if note_of(folder).is_file() or _complete_kind(folder):
            found.append(folder)
        found += _noted(folder.rglob(f"*{NOTE}")) if folder.is_dir() else []
    for folder in () if folders else default:
        found += _noted(folder.resolve().glob(f"*{NOTE}"))
    return list(dict.fromkeys(found))


def _noted(notes: Iterable[Path]) -> list[Path]:
    return sorted(path.with_name(path.name.removesuffix(NOTE)) for path in notes)


def _complete_kind(output: Path) -> CommandKind | None:
    """Return what an output without a note is; None if it is not complete, or of submitted runs."""
    if (output / MANIFEST).is_file():
        return "preparation"
    if (output / "best.yaml").is_file():
        return "sweep"
    return None


def command_status(outputs: Iterable[Path]) -> list[CommandStatus]:
    """Return state, progress, and cause of the end, of the commands that make some outputs."""
    notes = {output: read_note(note_of(output)) for output in outputs}
    jobs = [note["job"] for note in notes.values() if note]
    try:
        found = slurm.job_states(jobs)
    except NoAnswer:
        found = dict.fromkeys(jobs, slurm.UNKNOWN)
    return [_one(output, note, found) for output, note in notes.items()]


def _one(output: Path, note: CommandNote | None, found: dict[str, str]) -> CommandStatus:
    kind = note["kind"] if note else _complete_kind(output)
    assert kind
    status: CommandStatus = {
        "output": str(output),
        "kind": kind,
        "job": note["job"] if note else None,
        "state": found[note["job"]] if note else COMPLETE,
        "done": note is None,
        "progress": _progress(output, kind),
        "restarts": note["restart"] if note else 0,
        "log": note["log"] if note else None,
        "error": None,
    }
    if note:
        status["error"] = note["stopped"] or None
        if not note["stopped"] and not slurm.active(status["state"]):
            killed = slurm.killed_by(note["job"]) if status["state"] == "FAILED" else None
            words = last_line(Path(note["log"])) if note["log"] else "it was killed, and has no log"
            status["error"] = killed or words
    return status


def _progress(output: Path, kind: CommandKind) -> dict[str, int]:
    """Count molecules of a preparation, trials of a sweep, or cells of a study, by state."""
    if kind == "preparation":
        if (output / MANIFEST).is_file():
            return {"molecules": read_json(output / MANIFEST)["rows"]}
        staging = Staging(staging_folder(output))
        chunks = [int(record.stem) for record in staging.records.glob("[0-9]*.json")]
        return {"molecules": sum(_molecules(staging, chunk) for chunk in chunks)}
    if kind == "sweep":
        trials = sorted(output.glob("trials/*"))
        return Counter(read_json(RunDir(run).trial)["state"] for run in trials if RunDir(run).trial.is_file())
    return Counter(states(output, load_grid(output)[1]).values()) if (output / CELLS).is_file() else {}


def _molecules(staging: Staging, chunk: int) -> int:
    """Molecules of a chunk; none where its record is damaged, as the chunk will be done again."""
    try:
        return staging.read_record(chunk)["in"]
    except DamagedFile:
        return 0


def print_commands(found: list[CommandStatus]) -> None:
    """Print one paragraph for each command."""
    for status in found:
        job = f"job {status['job']} {status['state']}" if status["job"] else "complete"
        counts = ", ".join(f"{count} {what}" for what, count in status["progress"].items())
        line = f"{status['output']}: {status['kind']}, {job}"
        print(f"{line}, {counts}, {status['restarts']} restarts" if counts else line)
        if status["error"]:
            print(f"  {status['error']}")


def command_log(output: Path) -> Path:
    """Return the log of the job in which a command works.

    Raises:
        UserError: there is none.
    """
    note = read_note(note_of(output))
    if note is None or note["log"] is None or not Path(note["log"]).is_file():
        job = f"job {note['job']}" if note else "no job"
        raise UserError(f"{output}: there is no log to show ({job}): look where sbatch was called")
    return Path(note["log"])


def command_goes_on(output: Path) -> bool:
    """Return whether the job of a command may still write to its log.

    Raises:
        NoAnswer: Slurm does not answer.
    """
    note = read_note(note_of(output))
    return note is not None and slurm.active(slurm.job_states([note["job"]])[note["job"]])


def cancel_commands(outputs: Iterable[Path]) -> list[str]:
    """Cancel the active jobs of commands; returns them.

    Raises:
        NoAnswer: Slurm does not answer, so jobs may still wait or run.
    """
    notes = [note for output in outputs if (note := read_note(note_of(output)))]
    found = slurm.job_states([note["job"] for note in notes])
    jobs = [job for job, state in found.items() if slurm.active(state)]
    for job in jobs:
        must("scancel", job)
    return jobs
