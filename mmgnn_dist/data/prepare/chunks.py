"""One chunk of a preparation: read, join text, check, write a staged shard and its record.

This is the work of a Ray worker, or of this process for small sources. All large data goes through files in
the staging folder, never through the driver. A chunk is done when its record exists and its shard has the
size and SHA-256 of the record, so an interrupted preparation knows what is left to do.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import REASONS, UNREADABLE, BadRecord, check_molecules, detail
from mmgnn_dist.chem.identity import complete_keys
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.readers.record import assemble
from mmgnn_dist.chem.readers.source import Source, Stream, one_line
from mmgnn_dist.chem.states.electronic_state import States, settle
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.prepare.notes import note_rows
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.data.prepare.statistics import shard_statistics
from mmgnn_dist.data.prepare.text.chosen_fields import known_fields
from mmgnn_dist.data.prepare.text.join import MISFITS, clean_text
from mmgnn_dist.data.prepare.text.providers import TableText, gather_text, make_providers
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord, NoteRow, QuarantineRow
from mmgnn_dist.data.shardset.shards import (
    CONTEXT_FIELDS,
    SELECTED,
    STRING_FIELDS,
    shard_schema,
    without_plain_states,
    write_shard,
)
from mmgnn_dist.errors import DamagedFile, UserError
from mmgnn_dist.files import read_sealed, sha256, write_sealed


class PlannedRun(TypedDict):
    """Consecutive chunks as a row of Ray Data, see `plan.Run`."""

    first: int
    end: int
    fed: bool


class ChunkRun(PlannedRun):
    """Chunks to work through; `tables` are their pickled rows if they are fed, `error` the user's error."""

    tables: bytes
    error: str


class FinishedRun(TypedDict):
    """First chunk of a finished run, the user's error, "" if there is none, and the node that worked."""

    first: int
    error: str
    node: str


def staging_folder(to: Path) -> Path:
    """Return the folder of a preparation in progress."""
    return to.with_name(to.name + ".partial")


class Staging:
    """The files of a preparation in progress, in its staging folder.

    Args:
        folder: the staging folder.
        tables: folder of the tables of text; None: the same.
    """

    def __init__(self, folder: Path, tables: Path | None = None):
        self.folder, self.tables = folder, tables or folder
        self.final = folder / "set"  # becomes TO
        self.records = folder / "records"

    def shard(self, chunk: int) -> Path:
        """The shard of a chunk."""
        return self.final / f"shard-{chunk:05d}.arrow"

    def record(self, chunk: int) -> Path:
        """The record of a chunk: counts, quarantine rows, summary, the shard's entry in the manifest."""
        return self.records / f"{chunk:05d}.json"

    def read_record(self, chunk: int) -> ChunkRecord:
        """Read the record of a chunk.

        Raises:
            DamagedFile: it is not what was written.
        """
        record: ChunkRecord = read_sealed(self.record(chunk))
        return record

    def write_record(self, chunk: int, record: ChunkRecord) -> None:
        """Write the record of a chunk."""
        write_sealed(self.record(chunk), record)

    def text(self, table: int) -> Path:
        """A table of text fields in clean form."""
        return self.tables / f"text-{table}.arrow"

    def is_done(self, chunk: int) -> bool:
        """Whether a chunk is staged in full."""
        record, shard = self.record(chunk), self.shard(chunk)
        if not record.is_file() or not shard.is_file():
            return False
        try:
            entry = self.read_record(chunk)["entry"]
        except DamagedFile:
            return False
        return bool(shard.stat().st_size == entry["bytes"] and sha256(shard) == entry["sha256"])


class Reading:
    """Reads consecutive chunks; each source continues where the last chunk ended."""

    def __init__(self, plan: PreparePlan):
        self.plan = plan
        self._open: tuple[int, Stream] | None = None

    def tables(self, chunk: int) -> list[pa.Table]:
        """The rows of each segment of a chunk, in the form of their source."""
        tables = []
        for index, start, rows in self.plan.chunks[chunk]:
            if self._open is None or self._open[0] != index or self._open[1].position != start:
                self._open = index, self.plan.sources[index].stream(start)
            tables.append(self._open[1].read(rows))
        return tables


class ChunkRunner:
    """Works through runs of consecutive chunks.

    `feed` reads each sequential source once and hands out its chunks as raw tables; `work` reads all other
    sources itself.
    """

    def __init__(self, plan: PreparePlan, staging: Staging):
        self.plan, self.staging = plan, staging

    def feed(self, run: PlannedRun) -> Iterator[ChunkRun]:
        """Yield the unfinished chunks of a fed run with their rows; yield any other run unchanged."""
        if not run["fed"]:
            yield {**run, "tables": b"", "error": ""}
            return
        reading = Reading(self.plan)
        for chunk in range(run["first"], run["end"]):
            if self.staging.is_done(chunk):
                continue
            part: ChunkRun = {"first": chunk, "end": chunk + 1, "fed": True, "tables": b"", "error": ""}
            try:
                part["tables"] = pickle.dumps(reading.tables(chunk), protocol=5)
            except UserError as error:
                yield {**part, "error": str(error)}
                return
            yield part

    def work(self, run: ChunkRun) -> FinishedRun:
        """Do the unfinished chunks from `first` to before `end`; `error` is the user's error, or ''."""
        error = run["error"]
        reading = Reading(self.plan)
        try:
            for chunk in range(run["first"], run["end"]):
                if not error and not self.staging.is_done(chunk):
                    self.do(chunk, pickle.loads(run["tables"]) if run["fed"] else reading.tables(chunk))
        except UserError as wrong:
            error = str(wrong)
        node = os.environ.get("SLURMD_NODENAME") or platform.node()
        return {"first": run["first"], "error": error, "node": node}

    def do(self, chunk: int, tables: list[pa.Table], lenient: bool = False) -> None:
        """Convert the rows of a chunk to molecules and finish the chunk.

        Args:
            chunk: number of the chunk.
            tables: the rows of its segments.
            lenient: set rows aside that give no molecule and that their reader does not tell one by one.

        Raises:
            UserError: rows give no molecules.
        """
        parts = []
        for (index, start, _), table in zip(self.plan.chunks[chunk], tables, strict=True):
            convert = self._convert_each if lenient else self._convert
            try:
                parts += convert(self.plan.sources[index], table, start)
            except MISFITS as error:
                raise UserError(
                    f"{self.plan.sources[index].path}, rows {start} to {start + table.num_rows - 1} (chunk "
                    f"{chunk}), give no molecules ({type(error).__name__}: {one_line(error)}): check the "
                    "values of its columns"
                ) from None
        self._finish(chunk, parts)

    def _convert(self, source: Source, table: pa.Table, start: int) -> list[Molecules]:
        molecules = source.convert(table, start, self.plan.names, spread)
        text = clean_text(molecules.text, source.path.name, self.plan.own_fields)
        keys = complete_keys(molecules.inchikey, molecules.smiles)
        return [replace(molecules, inchikey=keys, text=text)]

    def _convert_each(self, source: Source, table: pa.Table, start: int) -> list[Molecules]:
        """Convert rows by ever smaller parts, until those that give no molecule are alone."""
        try:
            return self._convert(source, table, start)
        except MISFITS as error:
            if table.num_rows == 1:
                fault = BadRecord(UNREADABLE, f"{type(error).__name__}: {one_line(error)}")
                name, width = f"{source.name}-{start}", len(self.plan.names)
                bad = assemble(source.name, start, [name], [fault], [[]], width, [])
                text = clean_text(bad.text, source.path.name, self.plan.own_fields)
                return [replace(bad, text=text)]
        half = table.num_rows // 2
        first = self._convert_each(source, table.slice(0, half), start)
        return first + self._convert_each(source, table.slice(half), start + half)

    def _finish(self, chunk: int, parts: list[Molecules]) -> None:
        """Join, check and write: the shard first, its record last."""
        tables = [self.staging.text(number) for number in range(len(self.plan.text))]
        own = self.plan.own_fields
        providers = make_providers(self.plan.providers, tables, own, self.plan.check_names, spread)
        quarantine: list[QuarantineRow] = []
        notes: list[NoteRow] = []
        kept_parts, kept_texts, assumed, offset = [], [], list[int](), 0
        for molecules in parts:
            text = gather_text(molecules, providers, own)
            verdict = check_molecules(molecules, self.plan.elements, self.plan.trained_states)
            quarantine += _set_aside(molecules, verdict, offset)
            guesses = _states(molecules).assumed & (verdict == 0)
            assumed += (offset + np.flatnonzero(guesses)).tolist()
            notes += note_rows(molecules, verdict, offset)
            offset += len(molecules)
            kept_parts.append(molecules.keep(verdict == 0))
            kept_texts.append(text.filter(pa.array(verdict == 0)))
        # several conformers of a row: the place in the chunk does not tell the row
        several = sum(len(part) for part in parts) != self.plan.chunk_rows(chunk)
        text = pa.concat_tables(kept_texts)
        unknown: Counter[str] = Counter()
        if self.plan.selects:
            selected, unknown = known_fields(text[SELECTED].combine_chunks(), self.plan.text_columns)
            text = text.set_column(text.column_names.index(SELECTED), SELECTED, selected)
        batch = to_batch(kept_parts, text, len(self.plan.targets), own, self.plan.selects)
        entry = write_shard(self.staging.shard(chunk), batch)
        record: ChunkRecord = {
            "in": sum(len(part) for part in parts),
            "entry": entry,
            "joined": next((p.joined.tolist() for p in providers if isinstance(p, TableText)), []),
            "without_text": {p.name: dict(p.without_text) for p in providers if p.without_text},
            "selection": {
                "molecules": len(text) - text[SELECTED].null_count if self.plan.selects else 0,
                "unknown": dict(unknown),
            },
            "summary": shard_statistics(batch, self.plan.names, (*TEXT_FIELDS, *own)),
            "quarantine": quarantine,
            "assumed": assumed,
            "notes": notes,
            "origins": [(part.source, row) for part in parts for row in part.row.tolist()] if several else [],
        }
        self.staging.write_record(chunk, record)


def spread(function: Callable[[Any], Any], portions: list[Any]) -> list[Any]:
    """Map a function over portions of a chunk, one Ray task each, so that one chunk can use all CPUs."""
    ray = sys.modules.get("ray")  # imported in its workers; its import costs a small preparation a second
    if len(portions) < 2 or ray is None or not ray.is_initialized():
        return [function(portion) for portion in portions]
    task = ray.remote(num_cpus=1)(_call)
    # Ray lends out this CPU meanwhile
    return list(ray.get([task.remote(function, portion) for portion in portions]))


def _call(function: Callable[[Any], Any], portion: Any) -> Any:
    """Call a function that may be a partial one, which Ray takes for no task."""
    return function(portion)


def to_batch(
    parts: list[Molecules], text: pa.Table, n_targets: int, own: Sequence[str] = (), selects: bool = False
) -> pa.RecordBatch:
    """Combine molecules that passed the checks and their text in clean form to the batch of a shard.

    Args:
        parts: the molecules.
        text: their text.
        n_targets: number of targets.
        own: text fields of the user (see `join.own_fields`).
        selects: whether the shard says for each molecule which fields it reads.
    """
    z = np.concatenate([part.z for part in parts]).astype(np.uint8)
    pos = np.concatenate([part.pos.astype(np.float32, copy=False) for part in parts])
    counts = np.concatenate([part.z_count for part in parts])
    ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    y = np.concatenate([part.y for part in parts])
    context = np.stack(
        [np.asarray(text[name].combine_chunks().fill_null(np.nan)) for name in CONTEXT_FIELDS], axis=1
    ).astype(np.float32)
    strings = {
        name: pa.concat_arrays([getattr(part, name) for part in parts])
        for name in ("id", "smiles", "inchikey")
    }
    strings |= {name: text[name].combine_chunks() for name in (*STRING_FIELDS, "field_sources", *own)}
    states = [_states(part) for part in parts]
    columns = {
        **strings,
        "z": pa.LargeListArray.from_arrays(pa.array(ptr), pa.array(z)),
        "pos": pa.LargeListArray.from_arrays(pa.array(3 * ptr), pa.array(pos)),
        "y": pa.FixedSizeListArray.from_arrays(pa.array(y.ravel()), n_targets),
        "context": pa.FixedSizeListArray.from_arrays(pa.array(context.ravel()), len(CONTEXT_FIELDS)),
        "synonyms": text["synonyms"].combine_chunks(),
        SELECTED: text[SELECTED].combine_chunks(),
        "charge": pa.array(np.concatenate([part.charge for part in states])),
        "multiplicity": pa.array(np.concatenate([part.multiplicity for part in states])),
    }
    schema = shard_schema(n_targets, own, selects, states=True)
    batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    return without_plain_states(batch)


def _states(molecules: Molecules) -> States:
    return settle(molecules.stated, molecules.z, molecules.z_count, molecules.smiles)


def _set_aside(molecules: Molecules, verdict: np.ndarray, offset: int) -> list[QuarantineRow]:
    """Quarantine rows of the molecules that failed a check; `at` is their position in the chunk."""
    return [
        {
            "at": offset + int(index),
            "id": molecules.id[index].as_py(),
            "source": molecules.source,
            "row": int(molecules.row[index]),
            "reason": REASONS[verdict[index]],
            "detail": detail(molecules, int(index), REASONS[verdict[index]]),
        }
        for index in np.flatnonzero(verdict)
    ]
