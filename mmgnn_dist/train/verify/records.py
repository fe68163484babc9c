"""The records of a run beside what they say of themselves: journal, data, checkpoints. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mmgnn_dist.checksums import RECORD
from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.shards import MANIFEST, ShardSet
from mmgnn_dist.data.shardset.splits import load_split, split_sha256
from mmgnn_dist.files import read_json, sha256
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine
from mmgnn_dist.train.checkpoint.store import STATE, complete, fault_of
from mmgnn_dist.train.provenance import origin
from mmgnn_dist.train.tracking.chain import read_chain
from mmgnn_dist.train.tracking.journal import journal_texts, parsed

STARTS = ("start", "resume")
STEPS = ("train", "skipped")


@dataclass(frozen=True)
class Fault:
    """A part of a run that is not as it was written.

    Attributes:
        kind: journal, recipe, split, molecules and labels, tokens, text vectors, language model, checkpoint,
            weights.
        name: the file, with the line in it.
        why: what is wrong with it.
    """

    kind: str
    name: str
    why: str

    @property
    def line(self) -> str:
        """The fault as one line of text."""
        return f"{self.kind}: {self.name}: {self.why}"


@dataclass(frozen=True)
class JournalRecord:
    """The journal of a run.

    Attributes:
        lines: its lines, without damaged ones.
        chained: number of lines that carry a hash.
        head: the hash that the last line carries; None without any.
        faults: its faults.
    """

    lines: list[JournalLine]
    chained: int
    head: str | None
    faults: list[Fault]

    @property
    def steps(self) -> dict[int, JournalLine]:
        """The line of every step."""
        return {line["step"]: line for line in self.lines if line["kind"] in STEPS}

    def starts(self, first: int, last: int) -> list[JournalLine]:
        """Return the starts of the run in which the steps from `first` to `last` were made."""
        found: list[JournalLine] = []
        current: JournalLine | None = None
        for line in self.lines:
            if line["kind"] in STARTS:
                current = line
            elif line["kind"] in STEPS and current not in (None, *found[-1:]):
                found += [current] if current and first <= line["step"] <= last else []
        return found


def read_record(run: RunDir) -> JournalRecord:
    """Read the journal and check its chain, its steps, and that it has all that the checkpoints say of it."""
    texts = journal_texts(run.journal)
    links, name = read_chain(texts), run.journal.name
    found = [parsed(text) for text in texts]
    faults = [
        Fault("journal", f"{name} line {link.number}", link.fault if not link.fits else "it is damaged")
        for link, line in zip(links, found, strict=True)
        if not link.fits or line is None
    ]
    lines = [line for line in found if line is not None]
    steps = [0, *(line["step"] for line in lines if line["kind"] in STEPS)]
    for before, step in pairwise(steps):
        if step != before + 1:
            faults.append(Fault("journal", name, f"step {step} follows step {before}"))
    faults += [
        Fault("weights", f"{name} step {line['step']}", "the ranks did not have the same weights before it")
        for line in lines
        if line.get("copies_differ")
    ]
    hashes = {link.hash for link in links if link.hash is not None}
    for checkpoint in complete(run.checkpoints):
        seen = _journal_of(checkpoint)
        if seen and seen not in hashes:
            why = f"the line that was its last as {checkpoint.name} was saved is not in it"
            faults.append(Fault("journal", name, why))
    head = next((link.hash for link in reversed(links) if link.hash is not None), None)
    return JournalRecord(lines, sum(link.hash is not None for link in links), head, faults)


def _journal_of(checkpoint: Path) -> str | None:
    try:
        values = read_json(checkpoint / STATE)
    except (OSError, ValueError):
        return None  # `checkpoint_faults` says so
    return values.get("journal") if isinstance(values, dict) else None


def data_faults(run: RunDir, recipe: Recipe, journal: JournalRecord, progress: Progress) -> list[Fault]:
    """Compare recipe, split and all files that the run has read with the checksums that it recorded.

    Raises:
        UserError: the shard set or its split cannot be read at all.
    """
    assert recipe.data.shards is not None
    shards = ShardSet.open(recipe.data.shards, verify=False)
    now = origin(recipe, shards, split_sha256(load_split(shards, recipe.data.split, recipe.data.fold)))
    recorded = {str(run.data): read_json(run.data)} if run.data.is_file() else {}
    for line in journal.lines:
        if line["kind"] in STARTS and "data" in line:
            recorded[f"{line['kind']} at step {line['step']} of {run.journal.name}"] = line["data"]
    titles = {"recipe": "recipe", "shards_sha256": "molecules and labels", "split_sha256": "split"}
    names = {
        "recipe": run.recipe,
        "shards_sha256": shards.path / MANIFEST,
        "split_sha256": f"split '{recipe.data.split}' (fold {recipe.data.fold}) of {shards.path}",
    }
    current: dict[str, object] = {**now}
    faults = [
        Fault(title, str(names[key]), f"{where} has another SHA-256 of it")
        for key, title in titles.items()
        for where, values in recorded.items()
        if key in values and values[key] != current[key]
    ]
    expected = dict(_expected(run, shards))
    for number, (path, digest) in enumerate(expected.items(), 1):
        progress(number, len(expected), "files of its data")
        if not path.is_file():
            if path.parent == shards.path.resolve():
                faults.append(Fault("molecules and labels", str(path), "it is missing"))
        elif (found := sha256(path)) != digest:
            why = f"its SHA-256 is {found[:16]}…, and the run read {digest[:16]}…"
            faults.append(Fault(_kind(path, shards.path), str(path), why))
    return faults


def _expected(run: RunDir, shards: ShardSet) -> Iterator[tuple[Path, str]]:
    """SHA-256 of all files of the data: those of the shards' manifest, and those that the run has read."""
    for entry in shards.manifest["shards"]:
        yield (shards.path / entry["name"]).resolve(), entry["sha256"]
    if run.verified.is_file():
        for path, file in RECORD.validate_json(run.verified.read_bytes()).items():
            yield Path(path), file.sha256


def _kind(path: Path, shards: Path) -> str:
    if not path.is_relative_to(shards.resolve()):
        return "language model"
    sidecars = {"tokens": "tokens", "embeddings": "text vectors"}
    return sidecars.get(path.relative_to(shards.resolve()).parts[0], "molecules and labels")


def checkpoint_faults(run: RunDir, progress: Progress) -> dict[Path, Fault | None]:
    """Compare complete checkpoints with their manifests; return them with the fault of each, oldest first."""
    faults: dict[Path, Fault | None] = {}
    for checkpoint in complete(run.checkpoints):
        progress.say(f"reading {checkpoint}")
        why = fault_of(checkpoint)
        faults[checkpoint] = Fault("checkpoint", str(checkpoint), why) if why else None
    return faults
