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

from mmgnn_dist.chem.checks import check_molecules
from mmgnn_dist.chem.identity import key_maker
from mmgnn_dist.chem.own_targets.label_ranges import out_of_range
from mmgnn_dist.chem.readers.find import check_name, check_readable, find_sources
from mmgnn_dist.chem.readers.formats import format_plugins
from mmgnn_dist.chem.readers.parquet import open_parquet
from mmgnn_dist.chem.readers.source import Source, file_content
from mmgnn_dist.chem.readers.table import TableSource
from mmgnn_dist.chem.states.electronic_state import TrainedStates
from mmgnn_dist.chem.targets import TARGETS, Target
from mmgnn_dist.config import ConformerConfig, DataConfig
from mmgnn_dist.data.prepare.text.join import MISFITS, own_fields, text_columns
from mmgnn_dist.data.prepare.text.providers import make_providers, provider_plugins
from mmgnn_dist.data.shardset.shards import FIRST_SCHEMA, SELECTED
from mmgnn_dist.errors import UserError, nearest
from mmgnn_dist.version import __version__

TASKS = 8  # about the smallest number of runs of chunks; longer runs decode a file fewer times
RUN = 16  # most chunks in a run
FIRST = 64  # molecules whose labels are looked at before anything is prepared
FEW = 8  # the same where a geometry has to be made for each

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
        max_label_deviation: largest deviation of a label in robust standard deviations; None: any.
        chunks: the segments that make each shard.
        rows_per_shard: the setting behind `chunks`.
        providers: names of the text providers, the most trusted first.
        text_columns: column of each text field of the user.
        selects: whether a source or text table says for each molecule which fields it reads.
        check_names: `data.check_names`.
        elements: symbols that a molecule may have; None: any.
        trained_states: charges and multiplicities that a molecule may have; None: any.
        plugins: identity of every provider and format that another package adds (see `Plugin.identity`).
        fingerprint: SHA-256 of everything that determines the shards.
    """

    sources: tuple[Source, ...]
    text: tuple[Path, ...]
    targets: tuple[Target, ...]
    max_label_deviation: float | None
    chunks: tuple[tuple[Segment, ...], ...]
    rows_per_shard: int
    providers: tuple[str, ...]
    text_columns: dict[str, str]
    selects: bool
    check_names: str
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

    @property
    def own_fields(self) -> tuple[str, ...]:
        """Text fields of the user that are not built in."""
        return own_fields(self.text_columns)

    @property
    def extends_text(self) -> bool:
        """Whether the shards have more columns of text than the built-in ones."""
        return bool(self.own_fields) or self.selects

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
    found_sources = find_sources(
        sources, data.declared, learned is None, data.add_hydrogens, data.text_columns
    )
    for source in found_sources if learned is None else ():
        check_first_labels(source)
    found_sources = [_with_conformers(source, data.conformers) for source in found_sources]
    selects = _inspect_text(text, data.text_columns, found_sources, labelled=learned is None)
    own = own_fields(data.text_columns)
    if text and "table" not in data.providers:
        raise UserError(
            f"--text {text[0]} is given, but data.providers={data.providers} has no 'table': add it"
        )
    targets = _targets(sources, found_sources, learned)
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
            f"{provider.name} {provider.version}".strip()
            for provider in make_providers(data.providers, [], own, data.check_names)
        ],
        "keys": key_maker(),
        "targets": [
            [column, target.name, target.unit, factor, *own_identity(target)]
            for source in found_sources
            for column, target, factor in source.targets
        ],
        **({"text_columns": data.text_columns} if data.text_columns else {}),
        **(
            {"conformers": [data.conformers.count, data.conformers.keep]} if data.conformers.count > 1 else {}
        ),
        **deviation_rule(data),
        **({"plugins": added_plugins} if added_plugins else {}),
        **({"learned": [[target.name for target in learned.targets], learned.elements]} if learned else {}),
        **({"trained_states": vars(learned.states)} if learned and learned.states else {}),
    }
    fingerprint = hashlib.sha256(json.dumps(determinants).encode()).hexdigest()
    chunks = cut_chunks([source.rows for source in found_sources], data.rows_per_shard)
    return PreparePlan(
        tuple(found_sources),
        tuple(text),
        tuple(targets),
        data.max_label_deviation if learned is None else None,
        chunks,
        data.rows_per_shard,
        tuple(data.providers),
        dict(data.text_columns),
        selects,
        data.check_names,
        learned.elements if learned else None,
        learned.states if learned else None,
        tuple(added_plugins),
        fingerprint,
    )


def _targets(names: list[str], found: list[Source], learned: TrainedModelSpec | None) -> list[Target]:
    """Return the targets of all sources and of the model, in the order of the shards.

    Raises:
        UserError: there is none.
    """
    by_name = {target.name: target for source in found for _, target, _ in source.targets}
    if learned:  # labels are not used
        by_name = {name: replace(target, kind=target.kind or "intensive") for name, target in by_name.items()}
        by_name |= {target.name: target for target in learned.targets}
    if not by_name:
        check_readable(found)
        ignored = sorted({column for source in found for column in source.ignored})
        hint = f" (columns: {', '.join(ignored)})" if ignored else ""
        notes = "".join(f"; {note}" for source in found for note in source.notes)
        raise UserError(
            f"no target in {', '.join(names)}{hint}{notes}: declare one with data.units.NAME=UNIT, or "
            "data.targets.NAME={column: COLUMN, unit: UNIT}"
        )
    targets = [by_name[name] for name in TARGETS if name in by_name]
    return targets + [by_name[name] for name in sorted(by_name) if name not in TARGETS]


def _inspect_text(text: list[Path], wanted: dict[str, str], sources: list[Source], labelled: bool) -> bool:
    """Check the tables of text; returns whether they or the sources choose fields for single molecules.

    A text field of the user that no source and no table has is refused, unless a model is applied.
    """
    for path in text:
        check_name(path)
        text_columns(path, wanted)
    given = {field for source in sources for field, _ in source.own_text}
    columns = {column for source in sources for column in source.columns}
    columns |= {column for path in text for column in open_parquet(path)[0].names}
    for field, column in wanted.items():
        if labelled and field not in given and column not in columns:
            raise UserError(
                f"data.text_columns.{field}: no source and no table of --text has '{column}'"
                f"{nearest(column, columns)}; columns: {', '.join(sorted(columns))[:200]}"
            )
    return SELECTED in columns


def _with_conformers(source: Source, wanted: ConformerConfig) -> Source:
    """Return a source that makes this many conformers, if it makes any."""
    return replace(source, conformers=wanted) if isinstance(source, TableSource) and source.embeds else source


def check_first_labels(source: Source) -> None:
    """Refuse a source whose first labels of a known target are outside its physical range.

    Raises:
        UserError: the unit of a column is wrong.
    """
    known = [found for found in source.targets if found[1].name in TARGETS]
    count = min(source.rows, FEW if source.embeds else FIRST)
    if not known or not count:
        return
    order = [target.name for _, target, _ in source.targets]
    try:
        block = source.convert(source.stream(0).read(count), 0, order)
    except MISFITS:  # told with its rows when they are prepared
        return
    sound = block.keep(check_molecules(block) == 0)
    for column, target, factor in known:
        y = sound.y[:, order.index(target.name)]
        if wrong := out_of_range(column, target, factor, y, sound.z, sound.z_count):
            raise UserError(f"{source.path}: {wrong}")


def own_identity(target: Target) -> list[object]:
    """Return what the fingerprint has of a target that is not in the table."""
    if target.name in TARGETS:
        return []
    return [target.kind, *([list(target.classes)] if target.classes else [])]


def deviation_rule(data: DataConfig) -> dict[str, float | None]:
    """Return `data.max_label_deviation` if it is not the default, as a part of the fingerprint."""
    default = type(data).model_fields["max_label_deviation"].default
    given = data.max_label_deviation
    return {} if given == default else {"max_label_deviation": given}


def cut_chunks(rows: list[int], most: int) -> tuple[tuple[Segment, ...], ...]:
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
