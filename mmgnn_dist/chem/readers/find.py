"""Sources of molecules: which files the words of a command mean, and which reader each file needs.

`parquet` reads Parquet files with geometry or SMILES, `csvfile` reads tables of SMILES, `asedb` reads ASE
databases, `tables.arrays` reads HDF5 and npz files, and `records` reads XYZ and SD files and the formats of
plugins (alone, in folders and in archives). Every reader recognises QM9 by its content and takes the units
of other targets from the recipe (`data.targets`, `data.units`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mmgnn_dist.chem.checks import REASONS, UNREADABLE
from mmgnn_dist.chem.labels import PARQUET, TABLES, Beside, LabelTable, label_tables
from mmgnn_dist.chem.own_targets.classes import check_classes, sorted_classes
from mmgnn_dist.chem.readers import asedb, csvfile, records
from mmgnn_dist.chem.readers.comment import COMMENT
from mmgnn_dist.chem.readers.formats import faulty_formats, record_formats, record_suffixes
from mmgnn_dist.chem.readers.parquet import inspect_parquet
from mmgnn_dist.chem.readers.source import (
    GEOMETRY,
    IDENTIFIERS,
    QM9_LISTS,
    TEXT_COLUMNS,
    Source,
    printable,
)
from mmgnn_dist.chem.readers.tables.array_files import HDF5_SUFFIXES, NPZ_SUFFIXES
from mmgnn_dist.chem.readers.tables.arrays import inspect_arrays
from mmgnn_dist.chem.readers.tables.pcqm4mv2 import inspect_pcqm4mv2, pcqm_labels
from mmgnn_dist.chem.states.charge_spin import with_spin_meaning
from mmgnn_dist.chem.streams.members import TARS, Passed, is_wanted, strip_packing
from mmgnn_dist.chem.targets import CLASS, Target
from mmgnn_dist.config import Declared, TargetConfig
from mmgnn_dist.errors import UserError, nearest

LOOK = 10  # records to try if no record has a column
SAMPLE = "sample"  # the word that names the bundled molecules
SHOWN_SOURCES = 3  # whose columns a message names
JOINED = ("records", "csv", "parquet")  # readers of molecules to which labels are joined by id
DATABASES = (".db", asedb.LMDB_SUFFIX)
ARCHIVES = (*TARS, ".zip")
ANY_NAME = ("records", "csv")  # readers that open a file whose name is not UTF-8


def sample_path() -> Path:
    """The Parquet file of the bundled molecules."""
    return Path(__file__).parents[2] / "sample" / "molecules.parquet"


def readable() -> str:
    """Describe the possible sources, for messages."""
    formats = ", ".join(record_formats())
    notes = "".join(f" ({fault})" for fault in faulty_formats())
    files = f"Parquet, {formats}, CSV, SMILES, HDF5, npz and ASE database files"
    return f"{files}, archives of them, folders, or '{SAMPLE}'{notes}"


def find_sources(
    names: list[str],
    declared: Declared,
    labelled: bool = True,
    add_hydrogens: bool = False,
    text_columns: dict[str, str] | None = None,
) -> list[Source]:
    """Return the readable files that the SOURCE words mean, in a fixed order.

    Args:
        names: files, archives, folders, or the word `sample`.
        declared: what the recipe declares of targets (`data.targets`, `data.units`).
        labelled: whether every declared column must be in some source.
        add_hydrogens: add the hydrogens that bonds require where a record lacks them.
        text_columns: column of each text field of the user, from the recipe.

    Raises:
        UserError: missing or unreadable file, unknown format, target without a unit, unit without a column.
    """
    if not names:
        raise UserError(f"no source given: name {readable()}")
    sources = [
        with_spin_meaning(source).reading_text(text_columns or {})
        for source in _inspect_all(list(_files(names)), declared, add_hydrogens, labelled)
    ]
    folders = [Path(name) for name in names if Path(name).is_dir()]
    if unread := [note for folder in folders for note in _unread(folder)]:
        sources[0] = replace(sources[0], notes=(*sources[0].notes, *unread))
    columns = {column for source in sources for column in source.columns}
    if not sum(source.rows for source in sources):
        notes = "".join(f"; {note}" for source in sources for note in source.notes)
        raise UserError(f"no molecule in {', '.join(names)}{notes}")
    if labelled:
        _refuse_missing(sources, columns, declared)
    made_names = [source.name for source in sources if source.makes_ids]
    for name in made_names:
        if made_names.count(name) > 1:
            raise UserError(f"several sources are called {name} and have no column 'id': add one")
    sources = with_common_classes(sources, labelled)
    first_of: dict[str, Target] = {}
    for source in sources:
        for _, target, _ in source.targets:
            first = first_of.setdefault(target.name, target)
            if (first.unit, first.kind) != (target.unit, target.kind):
                raise UserError(
                    f"{source.path}: target {target.name} is in {target.unit}, in another source it is in "
                    f"{first.unit}: declare it once for all by data.targets.{target.name}"
                )
    return sources


def _refuse_missing(sources: list[Source], columns: set[str], declared: Declared) -> None:
    """Refuse a declared target that no source has.

    Raises:
        UserError: there is one; the message says what the sources have, and what to add.
    """
    lowered = {column.lower() for column in columns}
    for name, value in declared.items():
        config = value if isinstance(value, TargetConfig) else None
        column = (config.column if config else None) or name
        if column.lower() in lowered:
            continue
        check_readable(sources)
        have = "; ".join(f"{source.path.name}: {source.has()}" for source in sources[:SHOWN_SOURCES])
        more = f"; and {len(sources) - SHOWN_SOURCES} more sources" if len(sources) > SHOWN_SOURCES else ""
        raise UserError(
            f"{'data.targets' if config else 'data.units'} names '{column}', no source has it"
            f"{nearest(column, columns)}: {have}{more}: {_cure(sources, columns, name)}"
        )


def _cure(sources: list[Source], columns: set[str], name: str) -> str:
    """Say how a target gets its labels."""
    cures = []
    if set(columns) - {*GEOMETRY, *IDENTIFIERS, COMMENT, *TEXT_COLUMNS}:
        cures.append(f"give the right column (data.targets={{{name}: {{column: COLUMN, unit: UNIT}}}})")
    if any(form(source.path) in JOINED for source in sources):
        cures.append(f"name a table (CSV or Parquet) with columns id and {name} as a further source")
    return ", or ".join(cures) or f"add a column '{name}'"


def with_common_classes(sources: list[Source], labelled: bool) -> list[Source]:
    """Return the sources with the classes of all of them for each target of kind class.

    Raises:
        UserError: a target has too few or too many classes, and labels are needed.
    """
    names: dict[str, set[str]] = {}
    for source in sources:
        for _, target, _ in source.targets:
            if target.kind == CLASS:
                names.setdefault(target.name, set()).update(target.classes)
    if not names:
        return sources
    classes = {name: sorted_classes(found) for name, found in names.items()}
    for name, found in classes.items():
        if labelled:
            check_classes(name, found)
    return [
        replace(
            source,
            targets=tuple(
                (column, replace(target, classes=classes.get(target.name, ())), factor)
                for column, target, factor in source.targets
            ),
        )
        for source in sources
    ]


def check_readable(sources: list[Source]) -> None:
    """Refuse a source without columns whose first records are all no molecules.

    Raises:
        UserError: there is such a source; the message describes the fault of its first record.
    """
    for source in sources:
        if source.rows and set(source.columns) <= {COMMENT}:
            count = min(source.rows, LOOK)
            block = source.convert(source.stream(0).read(count), 0, [])
            if block.fault.all():
                why = f"{REASONS[block.fault[0]]}: {printable(block.why[0].as_py())}"
                many = f"first {count} records are" if source.rows > 1 else "record is"
                hint = ": check that its suffix is right" if REASONS[block.fault[0]] == UNREADABLE else ""
                raise UserError(f"{source.path}: its {many} no molecule ({why}){hint}")


def _inspect_all(
    files: list[tuple[Path, str]], declared: Declared, add_hydrogens: bool, labelled: bool
) -> list[Source]:
    """Recognise all files: molecules, and what is read together with them (tables of labels, QM9's lists)."""
    labels: list[LabelTable] = []
    lists = tuple(path for path, _ in files if path.name in QM9_LISTS)
    molecules = []
    for path, name in files:
        tables = label_tables(path) if _suffix(path) in (*TABLES, *PARQUET) and path.is_file() else []
        labels += tables
        if not tables and path not in lists:
            molecules.append((path, name))
    if (labels or lists) and not any(form(path) in JOINED for path, _ in molecules):
        if not labels:
            raise UserError(f"{lists[0]} is a list for QM9, whose molecules are not named: name them, too")
        names = ", ".join(labels[0].columns)[:200]
        raise UserError(
            f"{labels[0].path} has no column smiles and no geometry: its columns are {names} and ids; "
            "labels by id need their molecules: name their XYZ, SD, SMILES, CSV or Parquet files, too"
        )
    sources: list[Source] = []
    for path, name in molecules:
        side = path.with_name(path.name + ".csv")
        own = [table for table in labels if table.path == side]
        others = [table for table in labels if not _is_side_table(table.path)]
        # QM9's table belongs to its SD file, wherever it is
        beside = Beside(tuple(own or others), lists, add_hydrogens, labelled)
        for source in _inspected(path, name, declared, beside):
            unjoined = (f"{path.name}: labels by id are not joined to files of this form",)
            noted = bool(beside.labels) and form(path) not in JOINED
            sources.append(replace(source, notes=(*source.notes, *unjoined)) if noted else source)
    return sources


def check_name(name: str | Path) -> None:
    """Refuse the name of a file that cannot be stored as text.

    Raises:
        UserError: the name is not UTF-8.
    """
    try:
        str(name).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise UserError(f"{shown}: the name of this file is not UTF-8: rename it") from None


def _inspected(path: Path, name: str, declared: Declared, beside: Beside) -> list[Source]:
    """Recognise one file; PCQM4Mv2 is two sources, one for each of its parts."""
    if gaps := pcqm_labels(path):
        check_name(path)
        return inspect_pcqm4mv2(path, gaps, name, declared, beside)
    if form(path) not in ANY_NAME:
        check_name(path)
    return [inspect(path, name, declared, beside)]


def inspect(path: Path, name: str, declared: Declared, beside: Beside) -> Source:
    """Recognise one file, or the records of one folder (see `find_sources` for the errors)."""
    kind = form(path)
    if kind == "parquet":
        return inspect_parquet(path, name, declared, beside)
    if kind == "csv":
        return csvfile.inspect_csv(path, name, declared, beside)
    if kind == "database":
        return asedb.inspect_asedb(path, name, declared)
    if kind == "arrays":
        return inspect_arrays(path, name, declared)
    if kind == "records":
        return records.inspect_records(path, name, declared, beside)
    raise UserError(f"{path}: molecules are read from {readable()}, not from '{path.suffix}'")


def form(path: Path) -> str:
    """Return the reader that a file needs, or "" if there is none; a folder counts as records."""
    suffix = _suffix(path)
    if path.is_dir() or suffix in ARCHIVES:
        return "records"
    if path.suffix.lower() in PARQUET:
        return "parquet"
    if path.suffix.lower() in DATABASES:
        return "database"
    if path.suffix.lower() in (*HDF5_SUFFIXES, *NPZ_SUFFIXES):
        return "arrays"
    if suffix in csvfile.SUFFIXES:
        return "csv"
    return "records" if suffix in record_suffixes() else ""


def _suffix(path: Path) -> str:
    """Return the suffix of a file without that of its compression, in lower case."""
    return Path(strip_packing(path.name)).suffix.lower()


def _files(names: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield (file, name) of each source; the loose record files of a folder form one source."""
    labels = {pcqm_labels(Path(name)) for name in names}
    for name in names:
        path = sample_path() if name == SAMPLE else Path(name)
        if path in labels:
            continue
        if path.is_dir():
            yield from _folder(path)
        elif not path.exists():
            raise UserError(f"no file {path}: name {readable()}")
        else:
            yield path, printable(_stem(path.name))


def _folder(path: Path) -> Iterator[tuple[Path, str]]:
    if (path / "manifest.json").is_file():
        raise UserError(f"{path} is a shard set already: name the files it was made from")
    files = sorted(file for file in path.rglob("*") if file.is_file() and form(file))
    for file in [file for file in files if pcqm_labels(file)]:
        files = [other for other in files if other not in (file, pcqm_labels(file))]
        yield file, printable(_stem(file.relative_to(path).as_posix()))
        if not files:
            return
    tables = [file for file in files if _is_side_table(file)]
    loose = [file for file in files if is_wanted(file.name, record_suffixes())]
    alone = [file for file in loose if file.with_name(file.name + ".csv") in tables]
    if not files:
        raise UserError(f"{path} is a folder without any of {readable()}")
    if alone and len(loose) > len(alone):
        raise UserError(
            f"{path} holds {alone[0].name} with its CSV and other files: name the files one by one"
        )
    if len(loose) > len(alone):
        yield path, printable(path.resolve().name)
    apart = {*tables, *(file for file in loose if file not in alone)}
    for file in files:
        if file not in apart:
            yield file, printable(_stem(file.relative_to(path).as_posix()))


def _unread(path: Path) -> list[str]:
    """Return a line on the files of a folder that no reader reads, if there are any."""
    passed = Passed()
    for file in path.rglob("*"):
        if file.is_file() and not form(file) and file.name not in QM9_LISTS:
            passed.add(file.name)
    return passed.note(path.resolve().name)


def _is_side_table(path: Path) -> bool:
    """Whether a CSV holds the values of the SD file next to it, as gdb9.sdf.csv does."""
    return (
        path.suffix.lower() == ".csv"
        and path.with_suffix("").suffix.lower() in record_suffixes()
        and (path.with_suffix("").is_file())
    )


def _stem(name: str) -> str:
    """Return the name of a file without its suffixes."""
    path = Path(strip_packing(name))
    return path.with_suffix("").as_posix().removesuffix(".tar")
