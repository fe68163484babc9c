"""What the columns of a file of molecules are: targets with units, classes, texts, and what is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from mmgnn_dist.chem.own_targets.classes import class_name
from mmgnn_dist.chem.own_targets.target_columns import unit_is_missing
from mmgnn_dist.chem.own_targets.target_names import known_name
from mmgnn_dist.chem.own_targets.values import is_missing, is_number, to_float, unit_behind, value_and_unit
from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.chem.readers.formats import record_formats
from mmgnn_dist.chem.readers.source import Source
from mmgnn_dist.chem.readers.table import TableSource, strings
from mmgnn_dist.chem.targets import CLASS, TARGETS, accepted_units
from mmgnn_dist.config import TEXT_FIELDS, Declared, TargetConfig
from mmgnn_dist.errors import UserError

ROWS = 1000  # of each source that are looked at
MOST_CLASSES = 10  # words that a column of classes may have
LEAST_OF_CLASS = 5  # molecules that every class must have among those looked at
WORDS_OF_TEXT = 3  # mean number of words from which on a column is text
INDEX = re.compile(r"(?i)(unnamed.*|index|idx|row|row_?number|no|number|.*_id|cid)")
UNIT_IN_NAME = (
    re.compile(r"(?P<stem>.+?)[\s_]*\[(?P<unit>[^\]]+)\]"),
    re.compile(r"(?P<stem>.+?)[\s_]*\((?P<unit>[^()]*(?:\([^()]*\))?[^()]*)\)"),
    re.compile(r"(?P<stem>.+?)[\s_]+(?:in[\s_]+)?(?P<unit>[^\s_]+)"),
)


@dataclass(frozen=True)
class ColumnTarget:
    """A column that is a target.

    Attributes:
        name: name of the target in the recipe.
        column: column of its values.
        unit: unit of the column; None for classes, and where the file itself says it.
        says: where the unit comes from, or what the classes are, for the user.
        is_class: whether its values are classes.
    """

    name: str
    column: str
    unit: str | None
    says: str
    is_class: bool = False

    @property
    def declared(self) -> dict[str, str]:
        """What `data.targets` has to say of it; empty if the file says all."""
        if self.unit is None and not self.is_class:
            return {}
        what = {"kind": CLASS} if self.unit is None else {"unit": self.unit}
        return ({"column": self.column} if self.column != self.name else {}) | what


@dataclass
class FileColumns:
    """What the columns of some files are.

    Attributes:
        rows: molecules in the files.
        targets: the targets.
        fields: text fields of the files that are built in.
        own_text: own text fields, and the column of each.
        unread: columns that are none of these.
        has_smiles: whether names can be made from structures.
    """

    rows: int = 0
    targets: list[ColumnTarget] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    own_text: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    has_smiles: bool = False


def look_at_columns(files: Sequence[str], declared: Declared) -> FileColumns:
    """Find out what the columns of files of molecules are.

    A number is a target, a few words that repeat are classes, sentences are text. A column of whole numbers
    in steps of one is an index.

    Args:
        files: files, folders or archives as `mmgnn data prepare` takes them.
        declared: what the user declares of targets; it goes before what the file shows.

    Raises:
        UserError: a file cannot be read, a known target has no unit, or there is no target.
    """
    sources, stated = _sources(files, declared)
    shown = FileColumns(rows=sum(source.rows for source in sources))
    shown.has_smiles = any("smiles" in source.columns for source in sources)
    shown.fields = [name for name in TEXT_FIELDS if any(name in source.columns for source in sources)]
    for name, value in declared.items():
        config = value if isinstance(value, TargetConfig) else TargetConfig(unit=value)
        is_class = config.kind == CLASS
        shown.targets.append(ColumnTarget(name, config.column or name, config.unit, "as you say", is_class))
    asked = {target.column.lower() for target in shown.targets}
    own = {column: name for column, name in stated.items() if column.lower() not in asked}
    shown.targets += [ColumnTarget(name, column, None, "as the file says") for column, name in own.items()]
    taken = {target.column.lower() for target in shown.targets}
    for column, values in _values(sources).items():
        if column.lower() not in taken:
            _sort_column(shown, sources[0].path, column, values)
    if not shown.targets:
        raise UserError(
            f"{', '.join(files)} shows no target: its columns are {', '.join(shown.unread) or 'none'}; "
            "declare one by data.targets={NAME: {column: COLUMN, unit: UNIT}}"
        )
    return shown


def _sources(files: Sequence[str], declared: Declared) -> tuple[list[Source], dict[str, str]]:
    """Return the sources, and the targets whose units they say themselves, by column."""
    try:
        sources = find_sources(list(files), declared, labelled=False)
    except UserError:
        # a known target without a unit: any will do, since columns are looked at here, not converted
        any_unit: Declared = {name: accepted_units(name)[0] for name in TARGETS}
        return find_sources(list(files), {**any_unit, **declared}, labelled=False), {}
    return sources, {column: target.name for source in sources for column, target, _ in source.targets}


def _values(sources: Sequence[Source]) -> dict[str, list[str]]:
    """Return the first values of each column that may be a target or a text."""
    found: dict[str, list[str]] = {}
    for source in sources:
        possible = {*source.ignored, *(column for column, _, _ in source.targets)}
        for row in _first_rows(source):
            for column, value in row.items():
                if column in possible:
                    found.setdefault(column, []).append(value)
    return {column: present for column, values in found.items() if (present := _present(values))}


def _present(values: Sequence[str]) -> list[str]:
    return [value.strip() for value in values if not is_missing(value)]


def _first_rows(source: Source) -> Iterator[dict[str, str]]:
    """Yield the values beside the geometry of the first molecules, as text."""
    table = source.stream(0).read(min(ROWS, source.rows))
    if not isinstance(source, TableSource):
        formats = record_formats()
        for row in table.to_pylist():
            if not row["fault"]:
                yield formats[row["format"]].columns(row["raw"])
        return
    table = source.known(table)
    flat = [name for name in table.column_names if not pa.types.is_nested(table.schema.field(name).type)]
    texts = [strings(_as_words(table[name])).to_pylist() for name in flat]
    for values in zip(*texts, strict=True):
        yield {name: value or "" for name, value in zip(flat, values, strict=True)}


def _as_words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_boolean(column.type) else column


def _sort_column(shown: FileColumns, path: Path, column: str, values: list[str]) -> None:
    """Decide what one column is."""
    numbers = [value for value in values if is_number(value)]
    with_units = Counter(found[1] for value in values if (found := value_and_unit(value)))
    counts = Counter(class_name(value) for value in values)
    few = 1 < len(counts) <= MOST_CLASSES and min(counts.values()) >= LEAST_OF_CLASS
    if len(numbers) + with_units.total() > len(values) / 2:
        if few and set(counts) == {"0", "1"}:
            shown.targets.append(ColumnTarget(_plain(column), column, None, "0 and 1, so classes", True))
        elif len(counts) == 1 or _is_index(column, numbers):
            shown.unread.append(column)
        else:
            shown.targets.append(_number_target(path, column, with_units))
    elif few and max(len(value.split()) for value in values) < WORDS_OF_TEXT:
        names = ", ".join(sorted(map(str, counts)))
        shown.targets.append(ColumnTarget(_plain(column), column, None, f"classes {names}", True))
    elif sum(len(value.split()) for value in values) >= WORDS_OF_TEXT * len(values):
        shown.own_text[_plain(column).lower()] = column
    else:
        shown.unread.append(column)


def _is_index(column: str, numbers: list[str]) -> bool:
    """Whether a column counts rows, by its values or by its name."""
    values = [to_float(number) for number in numbers]
    steps = {after - before for before, after in pairwise(values)}
    return steps == {1.0} or (bool(INDEX.fullmatch(column)) and all(value.is_integer() for value in values))


def _number_target(path: Path, column: str, with_units: Counter[str]) -> ColumnTarget:
    """Return the target of a column of numbers, with its unit.

    Raises:
        UserError: it is a known target and nothing says its unit.
    """
    stem, unit = _unit_in_name(column)
    name, says = known_name(stem) or _plain(stem), "from the name of the column"
    if with_units and unit is None:
        unit, says = with_units.most_common(1)[0][0], "from its values"
    if unit is None and name in TARGETS:
        raise UserError(f"{path}: {unit_is_missing(name, name)}")
    if unit is None:
        unit, says = "1", "no unit is given, so numbers without one"
    return ColumnTarget(name, column, unit, says)


def _unit_in_name(column: str) -> tuple[str, str | None]:
    """Split a column such as `gap (eV)`, `gap_eV` or `logS [log(mol/L)]` into name and unit."""
    brackets, parentheses, behind = (pattern.fullmatch(column.strip()) for pattern in UNIT_IN_NAME)
    if brackets:
        return brackets["stem"], brackets["unit"].strip()
    if parentheses:
        unit = parentheses["unit"].strip()
        is_unit = unit_behind(unit) == unit or any(sign in unit for sign in "/^°%")
        return parentheses["stem"], unit if is_unit else None
    if behind and (unit := behind["unit"]) and unit_behind(unit) == unit:
        return behind["stem"], unit
    return column.strip(), None


def _plain(name: str) -> str:
    """Return a name with letters, digits and underscores alone, beginning with a letter."""
    plain = re.sub(r"\W+", "_", name.strip(), flags=re.ASCII).strip("_")
    return plain if plain[:1].isalpha() else f"y_{plain}".rstrip("_")
