"""What a preparation will do: which rows of which files make which shard.

A plan depends on the input and the settings alone, never on the number of workers, so the shards do not
either. Its fingerprint tells whether staged or finished work belongs to it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mmgnn_dist import __version__
from mmgnn_dist.chem.descriptors import rdkit_version
from mmgnn_dist.chem.readers import Source, find_sources
from mmgnn_dist.chem.targets import TARGETS, Target
from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.shards import SCHEMA
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import sha256

WHOLE = 1 << 26  # files up to this size are told apart by their whole content
END = 1 << 20  # larger ones by size, time and this much of their end, where Parquet keeps its index
TASKS = 8  # chunks are handed out in runs, at least about so many, to decode each file few times
RUN = 16  # chunks in a run, at most

Segment = tuple[int, int, int]  # source, first row, rows


@dataclass(frozen=True)
class Plan:
    """A preparation, known in full before anything is read.

    Attributes:
        sources: the files.
        text: tables of text fields, the most important first.
        targets: all targets of the sources, those of the table first.
        chunks: the segments that make each shard.
        rows_per_shard: the setting behind `chunks`.
        providers: who gives text fields, the most trusted first.
        fingerprint: SHA-256 of all that decides the shards.
    """

    sources: tuple[Source, ...]
    text: tuple[Path, ...]
    targets: tuple[Target, ...]
    chunks: tuple[tuple[Segment, ...], ...]
    rows_per_shard: int
    providers: tuple[str, ...]
    fingerprint: str

    @property
    def rows(self) -> int:
        """Molecules in all sources."""
        return sum(source.rows for source in self.sources)

    @property
    def names(self) -> list[str]:
        """Canonical names of the targets."""
        return [target.name for target in self.targets]

    def chunk_rows(self, chunk: int) -> int:
        """Molecules read into one chunk."""
        return sum(rows for _, _, rows in self.chunks[chunk])

    def runs(self) -> list[tuple[int, int]]:
        """(first chunk, end) of the runs of chunks that are read in one go."""
        length = min(max(len(self.chunks) // TASKS, 1), RUN)
        starts = range(0, len(self.chunks), length)
        return [(start, min(start + length, len(self.chunks))) for start in starts]


def make_plan(sources: list[str], text: list[Path], data: DataConfig) -> Plan:
    """Look at the sources and decide the chunks.

    Raises:
        UserError: see `find_sources`; also no molecule or no target in any source.
    """
    found = find_sources(sources, data.units)
    for path in text:
        if not path.is_file():
            raise UserError(f"no file {path}: --text takes a Parquet file of text fields")
    if text and "table" not in data.providers:
        raise UserError(
            f"--text {text[0]} is given, but data.providers={data.providers} has no 'table': add it"
        )
    if not sum(source.rows for source in found):
        raise UserError(f"no molecule in {', '.join(sources)}")
    by_name = {target.name: target for source in found for _, target, _ in source.targets}
    if not by_name:
        ignored = sorted({column for source in found for column in source.ignored})
        hint = f" (columns without a unit: {', '.join(ignored)})" if ignored else ""
        raise UserError(f"no target in {', '.join(sources)}{hint}: declare one with data.units.NAME=UNIT")
    targets = [by_name[name] for name in TARGETS if name in by_name]
    targets += [by_name[name] for name in sorted(by_name) if name not in TARGETS]
    decides = {
        "program": __version__,
        "schema": SCHEMA,
        "sources": [[source.name, *_content(source.path)] for source in found],
        "text": [[path.name, *_content(path)] for path in text],
        "rows_per_shard": data.rows_per_shard,
        "providers": [f"rdkit {rdkit_version()}" if name == "rdkit" else name for name in data.providers],
        "targets": [
            [column, target.name, target.unit, factor]
            for source in found
            for column, target, factor in source.targets
        ],
    }
    fingerprint = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
    chunks = _chunks([source.rows for source in found], data.rows_per_shard)
    return Plan(
        tuple(found),
        tuple(text),
        tuple(targets),
        chunks,
        data.rows_per_shard,
        tuple(data.providers),
        fingerprint,
    )


def _content(path: Path) -> list[str | int]:
    """What tells one content of a file from another."""
    state = path.stat()
    if state.st_size <= WHOLE:
        return [sha256(path)]
    with open(path, "rb") as content:
        content.seek(-END, 2)
        return [state.st_size, state.st_mtime_ns, hashlib.sha256(content.read()).hexdigest()]


def _chunks(rows: list[int], most: int) -> tuple[tuple[Segment, ...], ...]:
    """Cut the concatenation of all files into the fewest chunks of at most `most` rows, equal to ±1."""
    total = sum(rows)
    count = -(-total // most)
    ends = [total * (chunk + 1) // count for chunk in range(count)]
    chunks, segments, position = [], list[Segment](), 0
    cuts = iter(ends)
    cut = next(cuts)
    for source, size in enumerate(rows):
        start = 0
        while start < size:
            part = min(size - start, cut - position)
            segments.append((source, start, part))
            start += part
            position += part
            if position == cut:
                chunks.append(tuple(segments))
                segments, cut = [], next(cuts, total)
    return tuple(chunks)
