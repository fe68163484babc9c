"""Reading molecules with geometry from Parquet files.

A file is recognised by its columns: QM9 by `gdb_idx`, the rotational constants and its original units; any
other file by `atomic_numbers` and `positions`, with units from its metadata (`mmgnn.units`) or from the
recipe (`data.units`). A reader streams row ranges and converts every target once to its canonical unit.
Molecules that QM9 marks as `uncharacterized` are handed on as excluded: its authors advise against them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmgnn_dist.chem.elements import NUMBERS
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.targets import TARGETS, Target, accepted_units, target_for
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.errors import UserError, nearest

SAMPLE = "sample"  # the word that names the bundled molecules
GEOMETRY = ("atomic_numbers", "positions")
TEXT_COLUMNS = (*TEXT_FIELDS, "cid", "field_sources")
QM9_SIGN = frozenset({"gdb_idx", "A", "B", "C", *GEOMETRY})
QM9_EXTRA = frozenset({"gdb_idx", "A", "B", "C"})
QM9_UNITS = {
    "mu": "D", "alpha": "a0^3", "homo": "Hartree", "lumo": "Hartree", "gap": "Hartree", "r2": "a0^2",
    "zpve": "Hartree", "u0": "Hartree", "u298": "Hartree", "h298": "Hartree", "g298": "Hartree",
    "cv": "cal/mol/K",
}  # fmt: skip
STREAM_ROWS = 4096


def sample_path() -> Path:
    """The Parquet file of the bundled molecules."""
    return Path(__file__).parent.parent / "sample" / "molecules.parquet"


@dataclass(frozen=True)
class Source:
    """One readable file.

    Attributes:
        path: the file.
        name: what it is called in messages, quarantine and made ids.
        rows: molecules in it.
        columns: names of its columns.
        qm9: whether it is QM9 in its original form.
        targets: (column, canonical target, factor to the canonical unit).
        ignored: numeric columns that are neither known nor declared.
    """

    path: Path
    name: str
    rows: int
    columns: tuple[str, ...]
    qm9: bool
    targets: tuple[tuple[str, Target, float], ...]
    ignored: tuple[str, ...]

    @property
    def makes_ids(self) -> bool:
        """Whether ids are made of the file's name and the row."""
        return not self.qm9 and "id" not in self.columns

    def stream(self, start: int) -> RowStream:
        """Read on from row `start`."""
        wanted = [*GEOMETRY, "id", "gdb_idx", "smiles", "inchikey", *TEXT_COLUMNS]
        wanted += [column for column, _, _ in self.targets] + (["uncharacterized"] if self.qm9 else [])
        return RowStream(self.path, [name for name in wanted if name in self.columns], start)

    def convert(self, table: pa.Table, start: int, order: list[str]) -> Molecules:
        """Rows from `start` on as molecules, their targets in `order` (canonical names)."""
        n = table.num_rows
        row = np.arange(start, start + n)
        z, z_count = _atomic_numbers(table["atomic_numbers"])
        pos, pos_count, ragged = _positions(table["positions"])
        y = np.full((n, len(order)), np.nan)
        for column, target, factor in self.targets:
            y[:, order.index(target.name)] = _numbers(table[column]) * factor
        excluded = np.zeros(n, bool)
        if self.qm9 and "uncharacterized" in self.columns:
            excluded = np.asarray(_flat(table["uncharacterized"]).fill_null(False), dtype=bool)
        if self.qm9:
            ids = qm9_ids(table["gdb_idx"])
        elif "id" in self.columns:
            ids = strings(table["id"])
        else:
            ids = prefixed(f"{self.name}-", strings(pa.array(row)))
        text = table.select([name for name in TEXT_COLUMNS if name in self.columns])
        return Molecules(
            source=self.name, row=row, id=ids, smiles=_optional(table, "smiles"),
            inchikey=_optional(table, "inchikey"), z=z, z_count=z_count, pos=pos, pos_count=pos_count,
            ragged=ragged, y=y, excluded=excluded, text=text,
        )  # fmt: skip


class RowStream:
    """Consecutive rows of a Parquet file, decoded as they are asked for."""

    def __init__(self, path: Path, columns: list[str], start: int):
        self.path, self.position = path, start
        file = pq.ParquetFile(path)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        first = int(np.searchsorted(ends, start, side="right"))
        self._skip = start - int(ends[first - 1]) if first else start
        groups = list(range(first, len(sizes)))
        self._batches: Iterator[pa.RecordBatch] = file.iter_batches(
            STREAM_ROWS, row_groups=groups, columns=columns, use_threads=False
        )
        self._rest: pa.Table | None = None

    def read(self, rows: int) -> pa.Table:
        """The next `rows` rows.

        Raises:
            UserError: the file is damaged or has fewer rows than its metadata says.
        """
        parts, missing = [], rows
        while missing:
            table = self._rest if self._rest is not None else self._next()
            skip = min(self._skip, table.num_rows)
            self._skip -= skip
            part = table.slice(skip, missing)
            rest = table.slice(skip + part.num_rows)
            self._rest = rest if rest.num_rows else None
            missing -= part.num_rows
            parts.append(part)
        self.position += rows
        return pa.concat_tables(parts)

    def _next(self) -> pa.Table:
        try:
            return pa.Table.from_batches([next(self._batches)])
        except StopIteration:
            raise UserError(f"{self.path} ends before its last row: it is damaged, get it anew") from None
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.path} is damaged ({one_line(error)}): get it anew") from None


def find_sources(names: list[str], units: dict[str, str]) -> list[Source]:
    """The readable files that SOURCE words mean, in a fixed order.

    Args:
        names: files, folders of Parquet files, or the word `sample`.
        units: unit of each target column, from the recipe.

    Raises:
        UserError: missing or unreadable file, unknown form, target without a unit, unit without a column.
    """
    if not names:
        raise UserError("no source given: name a Parquet file, a folder of them, or 'sample'")
    sources = [inspect(path, name, units) for path, name in _files(names)]
    columns = {column for source in sources for column in source.columns}
    for column in units:
        if column not in columns:
            raise UserError(f"data.units names '{column}', no source has it{nearest(column, columns)}")
    made = [source.name for source in sources if source.makes_ids]
    for name in made:
        if made.count(name) > 1:
            raise UserError(f"several sources are called {name} and have no column 'id': add one")
    kinds: dict[str, str] = {}
    for source in sources:
        for _, target, _ in source.targets:
            if kinds.setdefault(target.name, target.unit) != target.unit:
                raise UserError(f"{source.path}: target {target.name} is of another unit in another source")
    return sources


def inspect(path: Path, name: str, units: dict[str, str]) -> Source:
    """Recognise one Parquet file by its columns (see `find_sources` for the errors)."""
    schema, rows = open_parquet(path)
    columns = tuple(schema.names)
    absent = [column for column in GEOMETRY if column not in columns]
    if absent:
        raise UserError(
            f"{path} has no column {' and no column '.join(absent)}: molecules need atomic_numbers (list) "
            "and positions (list, Å)"
        )
    qm9 = set(columns) >= QM9_SIGN
    given = QM9_UNITS if qm9 else {}
    metadata = (schema.metadata or {}).get(b"mmgnn.units")
    if metadata:
        try:
            given = given | dict(json.loads(metadata))
        except ValueError:
            raise UserError(f"{path}: its metadata mmgnn.units is not a JSON object") from None
    given = given | units
    targets, ignored = [], []
    known = {"id", "smiles", "inchikey", "uncharacterized", *GEOMETRY, *TEXT_COLUMNS}
    known |= QM9_EXTRA if qm9 else set()
    for field in schema:
        if field.name in given:
            if not _is_number(field.type):
                raise UserError(f"{path}: target column '{field.name}' is {field.type}, not a number")
            target, factor = target_for(field.name, given[field.name])
            targets.append((field.name, target, factor))
        elif field.name in TARGETS:
            raise UserError(
                f"{path}: the unit of column '{field.name}' is not given: add data.units.{field.name}=UNIT, "
                f"UNIT one of {', '.join(accepted_units(field.name))}"
            )
        elif _is_number(field.type) and field.name not in known:
            ignored.append(field.name)
    return Source(path, name, rows, columns, qm9, tuple(targets), tuple(ignored))


def open_parquet(path: Path) -> tuple[pa.Schema, int]:
    """Schema and number of rows of a Parquet file.

    Raises:
        UserError: the file cannot be read as Parquet.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file ({one_line(error)})") from None


def qm9_ids(column: pa.ChunkedArray) -> pa.Array:
    """QM9's own names of molecules, `dsgdb9nsd_000001`, from their 1-based index."""
    digits = pc.utf8_lpad(strings(column), 6, "0")
    return prefixed("dsgdb9nsd_", digits)


def prefixed(prefix: str, column: pa.Array) -> pa.Array:
    """Every string of a large_string column with `prefix` before it; null stays null."""
    return pc.binary_join_element_wise(pa.scalar(prefix, column.type), column, pa.scalar("", column.type))


def strings(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column of strings or whole numbers as large_string, blanks at the ends removed."""
    values = _flat(column)
    if pa.types.is_floating(values.type):  # integers that once had a null beside them
        values = pc.cast(values, pa.int64(), safe=False)
    return pc.utf8_trim_whitespace(pc.cast(values, pa.large_string()))


def one_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _files(names: list[str]) -> Iterator[tuple[Path, str]]:
    """(file, its name) of each Parquet file that is meant."""
    for name in names:
        path = sample_path() if name == SAMPLE else Path(name)
        if path.is_dir():
            if (path / "manifest.json").is_file():
                raise UserError(f"{path} is a shard set already: name the files it was made from")
            found = sorted(path.rglob("*.parquet"))
            if not found:
                raise UserError(f"{path} is a folder without .parquet files")
            for file in found:
                yield file, file.relative_to(path).with_suffix("").as_posix()
        elif not path.exists():
            raise UserError(f"no file {path}: name a Parquet file, a folder of them, or 'sample'")
        elif path.suffix.lower() not in (".parquet", ".pq"):
            raise UserError(f"{path}: molecules are read from .parquet files, not from '{path.suffix}'")
        else:
            yield path, path.stem


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _optional(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.large_string())
    values = strings(table[name])
    return pc.if_else(pc.equal(values, ""), None, values)


def _numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """float64, NaN for null."""
    return np.asarray(pc.cast(_flat(column), pa.float64()).fill_null(np.nan))


def _atomic_numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(flat atomic numbers, 0 where there is no element; count per molecule)."""
    lists = _flat(column)
    count = np.asarray(pc.list_value_length(lists).fill_null(0), dtype=np.int64)
    values = lists.flatten()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        table = pa.array(list(NUMBERS), values.type)
        place = pc.index_in(values, value_set=table)  # symbols stand in the order of their numbers, from 1
        return np.asarray(pc.add(place, 1).fill_null(0), dtype=np.int64), count
    if pa.types.is_floating(values.type):
        raw = _numbers(values)
        whole = np.isfinite(raw) & (raw == np.round(raw)) & (np.abs(raw) < 2**31)
        return np.where(whole, raw, 0).astype(np.int64), count
    return np.asarray(values.fill_null(0)).astype(np.int64), count


def _positions(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(flat coordinates; count per molecule; whether some position is not a triple)."""
    lists = _flat(column)
    count = np.asarray(pc.list_value_length(lists).fill_null(0), dtype=np.int64)
    ragged = np.zeros(len(count), bool)
    values = lists.flatten()
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or (
        pa.types.is_fixed_size_list(values.type)
    ):  # fmt: skip
        inner = np.asarray(pc.list_value_length(values).fill_null(0), dtype=np.int64)
        atom_of = np.repeat(np.arange(len(count)), count)
        count = np.bincount(atom_of, weights=inner, minlength=len(count)).astype(np.int64)
        ragged[atom_of[inner != 3]] = True
        values = values.flatten()
    if values.type != pa.float32():
        values = pc.cast(values, pa.float64())
    return np.asarray(values.fill_null(np.nan)), count, ragged
