"""The molecules to predict in portions: rows of files that are prepared, or of a shard set that stands.

A portion depends on the sources and the settings only, not on the number of processes, so that its
predictions do not either.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.chem.checks import UNSEEN, UNSEEN_STATE
from mmgnn_dist.config import Recipe
from mmgnn_dist.data.prepare.chunks import ChunkRunner, Reading, Staging
from mmgnn_dist.data.prepare.duplicates import origin_of
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.data.prepare.set_manifest import count_molecules, make_manifest
from mmgnn_dist.data.prepare.text.join import stage_text
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord, QuarantineRow
from mmgnn_dist.data.shardset.manifest import MoleculeCounts
from mmgnn_dist.data.shardset.references import row_states, with_other_elements
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles, resolve_encoder
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.checkpoint.export import states_of
from mmgnn_dist.train.inputs import Inputs

Tables = list[pa.Table]


@dataclass
class PortionInputs(Inputs):
    """Inputs of a portion; texts that are too long are set aside one by one, where none are stored."""

    def tokens(self, progress: Callable[[int, int, str], None], checked: bool = True) -> TokenSet | None:
        """Open or make the token sidecars; vectors of a frozen encoder are made for all texts or none."""
        return super().tokens(progress, checked and self.recipe.text.mode == "frozen")


@dataclass(frozen=True)
class Portion:
    """Some of the molecules to predict.

    Attributes:
        inputs: the molecules; their test part are those that passed the checks.
        view: a shard set of few molecules that has those of the test part, for what is told of them.
        local: their rows in `view`, int64 [R].
        rows: number of rows.
        aside: the molecules that were set aside.
        record: what the preparation found; None for molecules of a shard set.
        raw: the raw records of the rows; None where the source has none.
    """

    inputs: Inputs
    view: ShardSet
    local: np.ndarray
    rows: int
    aside: list[QuarantineRow]
    record: ChunkRecord | None = None
    raw: Sequence[bytes] | None = None


class Portions(ABC):
    """Molecules to predict, divided into portions.

    Attributes:
        sizes: rows of each portion.
        identity: what decides the molecules and their order.
        notes: lines on the sources.
    """

    sizes: list[int]
    identity: str
    notes: list[str]

    @abstractmethod
    def reader(self) -> Callable[[int], Tables]:
        """Return a function that reads the rows of a portion, quickest if they are asked for in order."""

    @abstractmethod
    def open(self, number: int, tables: Tables, folder: Path) -> Portion:
        """Make a portion ready for the model.

        Args:
            number: number of the portion.
            tables: its rows, as `reader` gives them.
            folder: an empty folder for its files.
        """

    @abstractmethod
    def origin(self, number: int, place: int) -> tuple[str, int]:
        """Return source and row there of a place in a portion."""

    @abstractmethod
    def first(self, most: int) -> Portions:
        """Return the first rows alone, at most `most`, as one portion."""

    @abstractmethod
    def total(self, counts: MoleculeCounts, records: list[ChunkRecord]) -> ShardSet:
        """Return a set whose manifest counts all molecules; its shards cannot be read.

        Args:
            counts: counts of all molecules.
            records: the records of the portions, in order.
        """


@dataclass
class FilePortions(Portions):
    """Molecules of files, each portion prepared as `mmgnn data prepare` does.

    Attributes:
        recipe: recipe of the model.
        plan: plan of their preparation; a portion is a chunk of it.
        tables: folder of the staged tables of text.
    """

    recipe: Recipe
    plan: PreparePlan
    tables: Path

    def __post_init__(self) -> None:
        self.sizes = [self.plan.chunk_rows(chunk) for chunk in range(len(self.plan.chunks))]
        self.identity = self.plan.fingerprint
        self.notes = [note for source in self.plan.sources for note in source.notes]
        self._files: EncoderFiles | None = None
        self._verified = VerifiedFiles()

    def stage(self) -> None:
        """Stage the tables of text, each complete or not at all."""
        staging = Staging(self.tables)
        for number, table in enumerate(self.plan.text):
            if not staging.text(number).is_file():
                stage_text(table, staging.text(number), self.plan.text_columns)

    def reader(self) -> Callable[[int], Tables]:
        """Return a function that reads the rows of a portion."""
        return Reading(self.plan).tables

    def open(self, number: int, tables: Tables, folder: Path) -> Portion:
        """Prepare a portion in a folder."""
        staging = Staging(folder, self.tables)
        for path in (staging.final, staging.records):
            path.mkdir(parents=True)
        ChunkRunner(self.plan, staging).do(number, tables, lenient=True)
        record = staging.read_record(number)
        if record["in"] != self.sizes[number]:
            raise AssertionError(f"portion {number}: {record['in']} molecules of {self.sizes[number]} rows")
        shards = self._set(staging.final, count_molecules([record]), [record])
        shards.manifest["shards"] = [record["entry"]]  # also one without molecules, which has its columns
        rows = np.arange(shards.rows)
        inputs = PortionInputs(self.recipe, shards, {"test": rows}, self._encoder(), None, self._verified)
        raw = [value for table in tables if "raw" in table.column_names for value in table["raw"].to_pylist()]
        aside = record["quarantine"]
        return Portion(inputs, shards, rows, record["in"], aside, record, raw or None)

    def origin(self, number: int, place: int) -> tuple[str, int]:
        """Return the name of a file, and the row in it."""
        return origin_of(self.plan, number, place)

    def first(self, most: int) -> FilePortions:
        """Return the first rows alone."""
        source, start, rows = self.plan.chunks[0][0]
        return replace(self, plan=replace(self.plan, chunks=(((source, start, min(rows, most)),),)))

    def total(self, counts: MoleculeCounts, records: list[ChunkRecord]) -> ShardSet:
        """Return a set of all molecules without its shards."""
        return self._set(Path(), counts, records)

    def _set(self, folder: Path, counts: MoleculeCounts, records: list[ChunkRecord]) -> ShardSet:
        return ShardSet(folder, make_manifest(self.plan, records, counts, self.plan.targets, {}))

    def _encoder(self) -> EncoderFiles | None:
        text = self.recipe.text
        if self._files is None and self.recipe.model.reads_text:
            files = resolve_encoder(text.encoder, text.revision, text.random)
            self._files = replace(files, digest=self._verified.sha256)
            self._files.check_pooling(text.pooling)
        return self._files


@dataclass
class StoredPortions(Portions):
    """Molecules of a shard set that stands; a portion lies in one shard.

    Attributes:
        inputs: all of its molecules.
        export: description of the model.
        most: most rows of a portion.
    """

    inputs: Inputs
    export: ExportRecord
    most: int

    def __post_init__(self) -> None:
        self._pieces: list[tuple[int, int, int]] = []  # shard, first row in it, rows
        for number, entry in enumerate(self.inputs.shards.manifest["shards"]):
            for first in range(0, entry["rows"], self.most):
                self._pieces.append((number, first, min(self.most, entry["rows"] - first)))
        self.sizes = [rows for _, _, rows in self._pieces]
        self.identity, self.notes = self.inputs.shards.sha256, []
        self._view: tuple[int, ShardSet] = (-1, self.inputs.shards)

    def reader(self) -> Callable[[int], Tables]:
        """Return a function that reads nothing: the shards are memory-mapped."""
        return lambda number: []

    def open(self, number: int, tables: Tables, folder: Path) -> Portion:
        """Check the molecules of a portion."""
        shard, first, count = self._pieces[number]
        shards = self.inputs.shards
        rows = shards.starts[shard] + first + np.arange(count)
        aside = self._unlike(number, rows)
        good = np.setdiff1d(np.arange(count), [entry["at"] for entry in aside])
        view = self._one_shard(shard)
        return Portion(replace(self.inputs, split={"test": rows[good]}), view, first + good, count, aside)

    def _one_shard(self, number: int) -> ShardSet:
        """A view of one shard, kept until another one is asked for."""
        if self._view[0] != number:
            entry = self.inputs.shards.manifest["shards"][number]
            manifest: Any = {**self.inputs.shards.manifest, "shards": [entry], "rows": entry["rows"]}
            self._view = number, replace(self.inputs.shards, manifest=manifest)
        return self._view[1]

    def _unlike(self, number: int, rows: np.ndarray) -> list[QuarantineRow]:
        """Set molecules aside with elements or states on which the model was not trained."""
        shards, learned, states = self.inputs.shards, self.export.get("learned_from"), states_of(self.export)
        reasons = np.full(len(rows), "", object)
        if states is not None:
            reasons[~states.has(*row_states(shards, rows))] = UNSEEN_STATE
        if learned is not None:
            reasons[with_other_elements(shards, rows, learned["elements"])] = UNSEEN
        places = np.flatnonzero(reasons != "")
        names = shards.ids(rows[places]).tolist()
        return [
            aside_row(self, number, at, name, reasons[at], "")
            for at, name in zip(places.tolist(), names, strict=True)
        ]

    def origin(self, number: int, place: int) -> tuple[str, int]:
        """Return the name of the set, and the row in it."""
        shard, first, _ = self._pieces[number]
        return self.inputs.shards.path.name, int(self.inputs.shards.starts[shard]) + first + place

    def first(self, most: int) -> StoredPortions:
        """Return the first rows alone."""
        chosen = replace(self, most=most)
        chosen.sizes = chosen.sizes[:1]
        return chosen

    def total(self, counts: MoleculeCounts, records: list[ChunkRecord]) -> ShardSet:
        """Return the shard set."""
        return self.inputs.shards


def aside_row(portions: Portions, number: int, at: int, name: str, reason: str, detail: str) -> QuarantineRow:
    """Return the row on a molecule at a place of a portion that is set aside."""
    source, row = portions.origin(number, at)
    return {"at": at, "id": name, "source": source, "row": row, "reason": reason, "detail": detail}


def clear(folder: Path) -> None:
    """Empty a folder for the next portion."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
