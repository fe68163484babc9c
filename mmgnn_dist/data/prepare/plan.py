"""The plan of a preparation: which rows of which files make which shard.

A plan, and with it the shards, depends on the input and the settings only, never on the number of workers.
Its fingerprint tells whether staged or finished work belongs to it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from mmgnn_dist import __version__
from mmgnn_dist.chem.identity import key_maker
from mmgnn_dist.chem.readers.find import check_name, check_readable, find_sources
from mmgnn_dist.chem.readers.formats import format_plugins
from mmgnn_dist.chem.readers.source import Source, file_content
from mmgnn_dist.chem.readers.table import TableSource
from mmgnn_dist.chem.states.electronic_state import TrainedStates
from mmgnn_dist.chem.targets import TARGETS, Target
from mmgnn_dist.config import ConformerConfig, DataConfig
from mmgnn_dist.data.prepare.join import text_columns
from mmgnn_dist.data.prepare.providers import make_providers, provider_plugins
from mmgnn_dist.data.shardset.shards import FIRST_SCHEMA
from mmgnn_dist.errors import UserError

TASKS = 8  # about the smallest number of runs of chunks; longer runs decode a file fewer times
RUN = 16  # most chunks in a run

Segment = tuple[int, int, int]  # source, first row, rows


@dataclass(frozen=True)
class TrainedModelSpec:
    """A trained model for which molecules are prepared.

    Attributes:
        targets: targets that it predicts; the set has them even if no source has labels.
        elements: symbols of its training part, the only ones a molecule may have; None: unknown, so any.
        states: charges and multiplicities of its training part, as `elements`.
    """

    targets: tuple[Target, ...]
    elements: tuple[str, ...] | None
    states: TrainedStates | None = None


class Run(NamedTuple):
    """Consecutive chunks, from `first` to before `end`; `fed`: one task reads them for all parsing tasks."""

    first: int
    end: int
    fed: bool


@dataclass(frozen=True)
class PreparePlan:
    """A preparation, known in full before anything is read.

    Attributes:
        sources: the sources of molecules.
        text: tables of text fields, the most important first.
        targets: all targets of the sources, those of `chem.targets.TARGETS` first.
        chunks: the segments that make each shard.
        rows_per_shard: the setting behind `chunks`.
        providers: names of the text providers, the most trusted first.
        elements: symbols that a molecule may have; None: any.
        trained_states: charges and multiplicities that a molecule may have; None: any.
        plugins: identity of every provider and format that another package adds (see `Plugin.identity`).
        fingerprint: SHA-256 of everything that determines the shards.
    """

    sources: tuple[Source, ...]
    text: tuple[Path, ...]
    targets: tuple[Target, ...]
    chunks: tuple[tuple[Segment, ...], ...]
    rows_per_shard: int
    providers: tuple[str, ...]
    elements: tuple[str, ...] | None
    trained_states: TrainedStates | None
    plugins: tuple[dict[str, str], ...]
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

    def runs(self) -> list[Run]:
        """The runs of chunks that are read in one go.

        A chunk belongs to the source in which it begins. All chunks of a sequential source are one run: one
        task reads the source once and hands out the chunks.
        """
        length = min(max(len(self.chunks) // TASKS, 1), RUN)
        runs: list[Run] = []
        owner = None
        for chunk, segments in enumerate(self.chunks):
            source = segments[0][0]
            fed = self.sources[source].sequential
            run_owner = source if fed else None
            if runs and run_owner == owner and (fed or chunk - runs[-1].first < length):
                runs[-1] = Run(runs[-1].first, chunk + 1, fed)
            else:
                runs.append(Run(chunk, chunk + 1, fed))
            owner = run_owner
        return runs


def make_prepare_plan(
    sources: list[str], text: list[Path], data: DataConfig, learned: TrainedModelSpec | None = None
) -> PreparePlan:
    """Inspect the sources and choose the chunks.

    Args:
        sources: as `pipeline.prepare` takes them.
        text: as `pipeline.prepare` takes them.
        data: as `pipeline.prepare` takes them.
        learned: the model that will be applied; labels are then not needed, so `data.units` may name targets
            that no source has.

    Raises:
        UserError: see `find_sources` and `text_columns`; also no target in any source.
    """
    found_sources = find_sources(sources, data.units, labelled=learned is None)
    found_sources = [_with_conformers(source, data.conformers) for source in found_sources]
    for path in text:
        check_name(path)
        text_columns(path)
    if text and "table" not in data.providers:
        raise UserError(
            f"--text {text[0]} is given, but data.providers={data.providers} has no 'table': add it"
        )
    by_name = {target.name: target for target in learned.targets} if learned else {}
    by_name |= {target.name: target for source in found_sources for _, target, _ in source.targets}
    if not by_name:
        check_readable(found_sources)
        ignored = sorted({column for source in found_sources for column in source.ignored})
        hint = f" (columns without a unit: {', '.join(ignored)})" if ignored else ""
        notes = "".join(f"; {note}" for source in found_sources for note in source.notes)
        raise UserError(
            f"no target in {', '.join(sources)}{hint}{notes}: declare one with data.units.NAME=UNIT"
        )
    targets = [by_name[name] for name in TARGETS if name in by_name]
    targets += [by_name[name] for name in sorted(by_name) if name not in TARGETS]
    formats = {name for source in found_sources for name in source.formats}
    added_plugins = [
        plugin.identity for plugin in (*provider_plugins(data.providers), *format_plugins(formats))
    ]
    determinants = {
        "program": __version__,
        "schema": FIRST_SCHEMA,
        "sources": [[source.name, *source.content()] for source in found_sources],
        "text": [[path.name, *file_content(path)] for path in text],
        "rows_per_shard": data.rows_per_shard,
        "providers": [
            f"{provider.name} {provider.version}".strip() for provider in make_providers(data.providers, [])
        ],
        "keys": key_maker(),
        "targets": [
            [column, target.name, target.unit, factor]
            for source in found_sources
            for column, target, factor in source.targets
        ],
        **(
            {"conformers": [data.conformers.count, data.conformers.keep]} if data.conformers.count > 1 else {}
        ),
        **({"plugins": added_plugins} if added_plugins else {}),
        **({"learned": [[target.name for target in learned.targets], learned.elements]} if learned else {}),
        **({"trained_states": vars(learned.states)} if learned and learned.states else {}),
    }
    fingerprint = hashlib.sha256(json.dumps(determinants).encode()).hexdigest()
    chunks = _chunks([source.rows for source in found_sources], data.rows_per_shard)
    return PreparePlan(
        tuple(found_sources),
        tuple(text),
        tuple(targets),
        chunks,
        data.rows_per_shard,
        tuple(data.providers),
        learned.elements if learned else None,
        learned.states if learned else None,
        tuple(added_plugins),
        fingerprint,
    )


def _with_conformers(source: Source, wanted: ConformerConfig) -> Source:
    """Return a source that makes this many conformers, if it makes any."""
    return replace(source, conformers=wanted) if isinstance(source, TableSource) and source.embeds else source


def _chunks(rows: list[int], most: int) -> tuple[tuple[Segment, ...], ...]:
    """Cut the concatenation of all files into the fewest chunks of at most `most` rows, of equal size ±1."""
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
