"""Sources of molecules: which files the words of a command mean, and which reader each file needs.

`parquet` reads Parquet files with geometry or SMILES, `csvfile` reads tables of SMILES, `asedb` reads ASE
databases, `tables.arrays` reads HDF5 and npz files, and `records` reads XYZ and SD files and the formats of
plugins (alone, in folders and in archives). Every reader recognises QM9 by its content and takes the units
of other targets from the recipe (`data.units`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mmgnn_dist.chem.checks import REASONS
from mmgnn_dist.chem.readers import asedb, containers, csvfile, records
from mmgnn_dist.chem.readers.formats import faulty_formats, record_formats, record_suffixes
from mmgnn_dist.chem.readers.parquet import inspect_parquet
from mmgnn_dist.chem.readers.source import QM9_LISTS, Source, printable
from mmgnn_dist.chem.readers.tables.array_files import HDF5_SUFFIXES, NPZ_SUFFIXES
from mmgnn_dist.chem.readers.tables.arrays import inspect_arrays
from mmgnn_dist.chem.readers.tables.pcqm4mv2 import inspect_pcqm4mv2, pcqm_labels
from mmgnn_dist.chem.states.charge_spin import with_spin_meaning
from mmgnn_dist.errors import UserError, nearest

LOOK = 10  # records to try if no record has a column
SAMPLE = "sample"  # the word that names the bundled molecules
PARQUET = (".parquet", ".pq")
DATABASES = (".db", asedb.LMDB_SUFFIX)
ARCHIVES = (".tar", ".tgz", ".tbz2", ".tbz", ".zip")


def sample_path() -> Path:
    """The Parquet file of the bundled molecules."""
    return Path(__file__).parents[2] / "sample" / "molecules.parquet"


def readable() -> str:
    """Describe the possible sources, for messages."""
    formats = ", ".join(record_formats())
    notes = "".join(f" ({fault})" for fault in faulty_formats())
    files = f"Parquet, {formats}, CSV, HDF5, npz and ASE database files"
    return f"{files}, archives of them, folders, or '{SAMPLE}'{notes}"


def find_sources(names: list[str], units: dict[str, str], labelled: bool = True) -> list[Source]:
    """Return the readable files that the SOURCE words mean, in a fixed order.

    Args:
        names: files, archives, folders, or the word `sample`.
        units: unit of each target column, from the recipe.
        labelled: whether every column of `units` must be in some source.

    Raises:
        UserError: missing or unreadable file, unknown format, target without a unit, unit without a column.
    """
    if not names:
        raise UserError(f"no source given: name {readable()}")
    for name in names:
        check_name(name)
    sources = [
        with_spin_meaning(source) for path, name in _files(names) for source in _inspected(path, name, units)
    ]
    folders = [Path(name) for name in names if Path(name).is_dir()]
    if unread := [note for folder in folders for note in containers.passed_over(*_unread(folder))]:
        sources[0] = replace(sources[0], notes=(*sources[0].notes, *unread))
    columns = {column for source in sources for column in source.columns}
    if not sum(source.rows for source in sources):
        notes = "".join(f"; {note}" for source in sources for note in source.notes)
        raise UserError(f"no molecule in {', '.join(names)}{notes}")
    for column in units:
        if labelled and column not in columns:
            check_readable(sources)
            raise UserError(f"data.units names '{column}', no source has it{nearest(column, columns)}")
    made_names = [source.name for source in sources if source.makes_ids]
    for name in made_names:
        if made_names.count(name) > 1:
            raise UserError(f"several sources are called {name} and have no column 'id': add one")
    unit_of_target: dict[str, str] = {}
    for source in sources:
        for _, target, _ in source.targets:
            if unit_of_target.setdefault(target.name, target.unit) != target.unit:
                raise UserError(f"{source.path}: target {target.name} is of another unit in another source")
    return sources


def check_readable(sources: list[Source]) -> None:
    """Refuse a source without columns whose first records are all no molecules.

    Raises:
        UserError: there is such a source; the message describes the fault of its first record.
    """
    for source in sources:
        if source.rows and not source.columns:
            count = min(source.rows, LOOK)
            block = source.convert(source.stream(0).read(count), 0, [])
            if block.fault.all():
                why = f"{REASONS[block.fault[0]]}: {printable(block.why[0].as_py())}"
                many = f"first {count} records are" if source.rows > 1 else "record is"
                raise UserError(
                    f"{source.path}: its {many} no molecule ({why}): check that its suffix is right"
                )


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


def _inspected(path: Path, name: str, units: dict[str, str]) -> list[Source]:
    """Recognise one file; PCQM4Mv2 is two sources, one for each of its parts."""
    check_name(path)
    if labels := pcqm_labels(path):
        return inspect_pcqm4mv2(path, labels, name, units)
    return [inspect(path, name, units)]


def inspect(path: Path, name: str, units: dict[str, str]) -> Source:
    """Recognise one file, or the records of one folder (see `find_sources` for the errors)."""
    kind = form(path)
    if kind == "parquet":
        return inspect_parquet(path, name, units)
    if kind == "csv":
        return csvfile.inspect_csv(path, name, units)
    if kind == "database":
        return asedb.inspect_asedb(path, name, units)
    if kind == "arrays":
        return inspect_arrays(path, name, units)
    if kind == "records":
        return records.inspect_records(path, name, units)
    raise UserError(f"{path}: molecules are read from {readable()}, not from '{path.suffix}'")


def form(path: Path) -> str:
    """Return the reader that a file needs, or "" if there is none; a folder counts as records."""
    suffix = Path(containers.strip_packing(path.name)).suffix.lower()
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
            yield path, _stem(path.name)


def _folder(path: Path) -> Iterator[tuple[Path, str]]:
    if (path / "manifest.json").is_file():
        raise UserError(f"{path} is a shard set already: name the files it was made from")
    files = sorted(file for file in path.rglob("*") if file.is_file() and form(file))
    for file in [file for file in files if pcqm_labels(file)]:
        files = [other for other in files if other not in (file, pcqm_labels(file))]
        yield file, _stem(file.relative_to(path).as_posix())
        if not files:
            return
    for file in files:
        check_name(file)
    tables = [file for file in files if _is_side_table(file)]
    loose = [file for file in files if containers.is_wanted(file.name, record_suffixes())]
    alone = [file for file in loose if file.with_name(file.name + ".csv") in tables]
    if not files:
        raise UserError(f"{path} is a folder without any of {readable()}")
    if alone and len(loose) > len(alone):
        raise UserError(
            f"{path} holds {alone[0].name} with its CSV and other files: name the files one by one"
        )
    if len(loose) > len(alone):
        yield path, path.resolve().name
    apart = {*tables, *(file for file in loose if file not in alone)}
    for file in files:
        if file not in apart:
            yield file, _stem(file.relative_to(path).as_posix())


def _unread(path: Path) -> tuple[str, list[str]]:
    """Return (name of a folder, names of its files that no reader reads)."""
    files = (file for file in path.rglob("*") if file.is_file() and not form(file))
    return path.resolve().name, [file.name for file in files if file.name not in QM9_LISTS]


def _is_side_table(path: Path) -> bool:
    """Whether a CSV holds the values of the SD file next to it, as gdb9.sdf.csv does."""
    return (
        path.suffix.lower() == ".csv"
        and path.with_suffix("").suffix.lower() in record_suffixes()
        and (path.with_suffix("").is_file())
    )


def _stem(name: str) -> str:
    """Return the name of a file without its suffixes."""
    path = Path(containers.strip_packing(name))
    return path.with_suffix("").as_posix().removesuffix(".tar")
