"""Sources of raw records: XYZ, SD files, QM9's archive, formats of plugins; alone, in folders and archives.

A first pass over the file counts its records and learns its columns; the second yields the raw records in
blocks, and the task that receives a block parses it. Both passes cut records in the same way, so the count
equals the number of records read.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import BOMB, DAMAGED, NO_HYDROGENS, REASONS, UNREADABLE, BadRecord
from mmgnn_dist.chem.labels import (
    NO_LABELS,
    Beside,
    LabelTable,
    LabelUse,
    join_labels,
    label_tables,
    labels_of,
    side_table,
)
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.own_targets.target_columns import Found, resolve_targets
from mmgnn_dist.chem.rdkit_tools import rdkit_version
from mmgnn_dist.chem.readers.comment import COMMENT
from mmgnn_dist.chem.readers.formats import record_formats
from mmgnn_dist.chem.readers.raw_records import PARSE_ERRORS, RAW, id_hash, numbered, own_id, raw_records
from mmgnn_dist.chem.readers.record import Census, Record, assemble, target_values
from mmgnn_dist.chem.readers.source import (
    IDENTIFIERS,
    QM9_EXTRA,
    QM9_LISTS,
    QM9_UNITS,
    TEXT_COLUMNS,
    SequentialStream,
    Source,
    Spread,
    one_line,
    printable,
    qm9_indices,
    qm9_list,
    qm9_notes,
)
from mmgnn_dist.chem.states.charge_spin import with_record_states
from mmgnn_dist.chem.streams.members import Passed, members
from mmgnn_dist.config import Declared

QM9_TOTAL = 133885
MOST_REMARKS = 20  # kinds of remarks on the records of a source
MOST_LIST = 1 << 20  # bytes of a list of molecules
EXTXYZ_WORDS = frozenset({"Properties", "Lattice", "pbc", "properties", "lattice", "inchi", *IDENTIFIERS})


@dataclass(frozen=True)
class RecordSource(Source):
    """A file, folder or archive of raw records.

    Attributes:
        digest: SHA-256 of all raw records.
        size: bytes on disk.
        labels: tables of labels by id, such as PyG's gdb9.sdf.csv.
        repeated: hashes of the ids that several records have, see `id_hash`.
        add_hydrogens: whether hydrogens that bonds require are added.
        told: what its first record gives beside the geometry.
    """

    digest: str = ""
    size: int = 0
    labels: tuple[LabelTable, ...] = ()
    repeated: frozenset[int] = frozenset()
    add_hydrogens: bool = False
    told: str = ""

    sequential = True

    @property
    def makes_ids(self) -> bool:
        """Whether made ids begin with the source's name; in a folder, they begin with those of its files."""
        return not self.qm9 and not self.path.is_dir()

    @property
    def bytes(self) -> int:
        """Size on disk; for a folder, of all its files."""
        return self.size

    def has(self) -> str:
        """Say what it has beside its geometries."""
        return super().has() if self.labels else self.told or "it has no value beside its geometries"

    def content(self) -> list[Any]:
        """Return the values that identify the content."""
        added = [f"hydrogens by rdkit {rdkit_version()}"] if self.add_hydrogens else []
        return [self.digest, sorted(self.excluded), *added]

    def stream(self, start: int) -> RecordStream:
        """Open a stream at record `start`."""
        return RecordStream(self.path, start, self.repeated)

    def convert(self, table: pa.Table, start: int, order: list[str], spread: Spread = map) -> Molecules:
        """Parse raw records."""
        records: list[Record | BadRecord] = []
        y: list[list[float]] = []
        names = table["name"].to_pylist()
        for row in table.to_pylist():
            try:
                record = self._parse(row)
                values = target_values(record, self.targets, order)
            except BadRecord as error:
                records.append(error)
                y.append([])
            else:
                records.append(record)
                y.append(values)
        text = {column: column for column in TEXT_COLUMNS if column in self.columns} | dict(self.own_text)
        molecules = assemble(self.name, start, names, records, y, len(order), list(text.items()))
        molecules.excluded[:] = self.is_excluded(molecules.id)
        return with_record_states(molecules, records, self.targets, self.spin_is_2s)

    def _parse(self, row: dict[str, Any]) -> Record:
        if row["fault"]:
            raise BadRecord(REASONS[row["fault"]], row["why"])
        kind = record_formats()[row["format"]]
        try:
            try:
                record = kind.parse(row["raw"], row["name"])
            except BadRecord as error:
                if error.reason != NO_HYDROGENS or not self.add_hydrogens:
                    raise
                record = kind.parse_with_hydrogens(row["raw"], row["name"])
        except PARSE_ERRORS as error:
            raise BadRecord(UNREADABLE, one_line(error)) from None
        for name in IDENTIFIERS:
            if name in record.conflicts:
                raise BadRecord(UNREADABLE, f"{name} stands twice: {record.conflicts[name]}")
        if self.labels:
            found = join_labels(self.labels, (record.id, row["name"]))
            if not found and self.qm9:
                raise BadRecord(UNREADABLE, f"{record.id} has no row in {self.labels[0].name}")
            record.values |= found
            record.inchikey = record.inchikey or found.get("inchikey")
        if row["number"]:
            record.id = f"{record.id}-{row['number']}"
        return record


class RecordStream(SequentialStream[dict[str, Any]]):
    """The raw records of a source in order."""

    def __init__(self, path: Path, start: int, repeated: frozenset[int] = frozenset()):
        rows = raw_records(path)
        super().__init__(path, numbered(rows, repeated) if repeated else rows, start)

    def table(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Return records in the form of `RAW`."""
        return pa.Table.from_pylist(rows, schema=RAW)


class Inspection:
    """What the first pass over the records of a source finds."""

    def __init__(self, declared: Declared) -> None:
        self.census = Census(declared)
        self.digest = hashlib.sha256()
        self.faults = Counter[str]()
        self.formats = set[str]()
        self.remarks = Counter[str]()  # by their words before the example
        self.examples: dict[str, str] = {}
        self.rows = self.qm9 = self.replaced = 0
        self.first_fault = self.first = ""
        self.ids = array("Q")

    def add(self, row: dict[str, Any], use: LabelUse) -> None:
        """Look at one record, a row of `RAW`."""
        self.rows += 1
        raw = row["raw"]
        self.digest.update(raw)
        self.digest.update(b"%d" % row["fault"])
        if row["fault"]:
            self.faults[REASONS[row["fault"]]] += 1
            self.first_fault = self.first_fault or row["why"]
            return
        kind = record_formats()[row["format"]]
        self.formats.add(row["format"])
        self.qm9 += kind.is_qm9(raw)
        self.replaced += not raw.isascii() and "\ufffd" in raw.decode("utf-8", "replace")
        own = None
        with suppress(BadRecord, *PARSE_ERRORS):  # such a record is set aside when it is parsed
            values = kind.columns(raw)
            self.census.add(values)
            own = kind.own_id(raw, values)
            for remark in kind.remarks(raw):
                text = remark.partition("(")[0]
                if text in self.remarks or len(self.remarks) < MOST_REMARKS:
                    self.remarks[text] += 1
                    self.examples.setdefault(text, remark)
            if not self.first:
                self.first = kind.describe(raw)
        if own:
            self.ids.append(id_hash(own))
        use.add(tuple(name for name in (own, row["name"]) if name))

    def repeated(self) -> tuple[frozenset[int], int]:
        """Return the hashes of ids that several records have, and the number of these records."""
        codes = np.frombuffer(self.ids, np.uint64)
        codes.sort()  # in place: there may be many
        same = np.flatnonzero(codes[1:] == codes[:-1])
        found = np.unique(codes[same])
        return frozenset(found.tolist()), len(same) + len(found)

    def notes(self, path: Path) -> list[str]:
        """Return lines on faults of the file and remarks on its records."""
        lines = []
        if broken := self.faults[DAMAGED] + self.faults[BOMB]:
            lines.append(
                f"{path.name} is damaged in {broken} places, and their content is missing "
                f"({self.first_fault}): get it anew"
            )
        if self.replaced:
            lines.append(
                f"{path.name}: {self.replaced} records are not in UTF-8, some of their letters are lost: "
                "save it as UTF-8"
            )
        lines += [
            f"{path.name}: {self.examples[text]}: {count} records" for text, count in self.remarks.items()
        ]
        return lines


def inspect_records(path: Path, name: str, declared: Declared, beside: Beside = NO_LABELS) -> RecordSource:
    """Count the records of a source and learn its columns.

    Raises:
        UserError: see `find_sources`.
    """
    seen, passed = Inspection(declared), Passed()
    labels = (*side_table(path, beside), *beside.labels)
    use = LabelUse(labels)
    for row in raw_records(path, passed):
        seen.add(row, use)
    inner_lists = _inner_lists(path) if passed.count and not path.is_dir() else ()
    if inner := _inner_tables(path, passed) if not path.is_dir() else []:
        labels = (*labels, *inner)
        use = LabelUse(labels)
        for row in raw_records(path):
            if not row["fault"]:
                use.add(tuple(name for name in (own_id(row), row["name"]) if name))
    if seen.qm9 and any(table.qm9 for table in labels):
        labels = use.tables = tuple(table for table in labels if table.qm9)
        columns = [(column, "") for column in QM9_UNITS]
    else:
        columns = seen.census.columns(declared)
        columns += labels_of(path, labels, {column for column, _ in columns}, seen.census, declared)
    for table in labels:
        seen.digest.update(table.path.read_bytes() if not table.member else table.digest.encode())
    original = seen.qm9 > 0 and {name for name, _ in columns} >= set(QM9_UNITS)
    non_targets = {*EXTXYZ_WORDS, *TEXT_COLUMNS, *(QM9_EXTRA if original else ())}
    targets, ignored = resolve_targets(
        path,
        columns,
        (QM9_UNITS if original else seen.census.stated_units(declared)) | declared,
        non_targets,
        seen.census.classes_of,
    )
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    excluded = frozenset[int]()
    if original:
        excluded = qm9_list(path if path.is_dir() else path.parent, beside.lists)
        for text in inner_lists:
            excluded = excluded or qm9_indices(text, f"the list in {path.name}")
    repeated, many = (frozenset[int](), 0) if original else seen.repeated()
    notes = seen.notes(path)
    if original and seen.rows < QM9_TOTAL:
        notes.append(f"{path.name} is a part of QM9: {seen.rows} of {QM9_TOTAL} molecules")
    notes += qm9_notes(path, excluded) if original else ()
    notes += use.notes(path)
    notes += _value_notes(path, seen.census, targets, ignored)
    if repeated:
        notes.append(
            f"{path.name}: {many} records have an id that others have, too: they are numbered (ID-1, "
            "ID-2, …), and InChIKeys tell which are of one molecule"
        )
    if not targets and seen.first and beside.labelled:
        notes.append(f"{path.name}: {seen.first}")
    if beside.add_hydrogens:
        notes.append(f"{path.name}: hydrogens that bonds require are added by RDKit where they lack")
    if passed.count > len(inner) + len(inner_lists) and (unread := passed.note(path.name)):
        notes.append(f"{unread[0]}: archives are read for {' and '.join(record_formats())} files")
    return RecordSource(
        path=path,
        name=name,
        rows=seen.rows,
        columns=tuple(column for column, _ in columns),
        qm9=original,
        targets=targets,
        ignored=ignored,
        excluded=excluded,
        notes=tuple(map(printable, notes)),
        formats=tuple(sorted(seen.formats)),
        digest=seen.digest.hexdigest(),
        size=sum(file.stat().st_size for file in files),
        labels=labels,
        repeated=repeated,
        add_hydrogens=beside.add_hydrogens,
        told=printable(seen.first),
    )


def _value_notes(path: Path, census: Census, targets: Found, ignored: tuple[str, ...]) -> list[str]:
    """Return lines on comments that are numbers and not read, and on words for missing values."""
    lines = [f"{path.name}: {line}" for line in census.value_notes(targets)]
    if COMMENT in ignored and COMMENT in census.numbers:
        lines.append(
            f"{path.name}: comments such as '{census.numbers[COMMENT][:40]}' are not read: a target in them "
            "is declared as data.targets.NAME={column: comment, unit: UNIT}"
        )
    return lines


def _inner_tables(path: Path, passed: Passed) -> list[LabelTable]:
    """Return the tables of labels in an archive."""
    return label_tables(path) if passed.kinds[".csv"] or passed.kinds[".tsv"] else []


def _inner_lists(path: Path) -> tuple[str, ...]:
    """Return the texts of QM9's lists of uncharacterised molecules in an archive."""
    texts = []
    for member in members(path, QM9_LISTS):
        if not isinstance(member.content, BadRecord):
            with suppress(BadRecord):
                texts.append(member.content.read(MOST_LIST).decode("utf-8", "replace"))
    return tuple(texts)
