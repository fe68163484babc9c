"""PCQM4Mv2 as published: an SD archive of the training molecules, and `data.csv.gz` with all gaps.

The record at place k of the archive is the molecule with idx k of the CSV. Molecules behind those of the
archive that have a gap are the published validation part; their geometries are made from SMILES. Those
without a gap are the test parts, whose labels are not public. Source: Hu et al., OGB-LSC, arXiv 2103.09430,
and OGB's page of the set.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import REASONS, UNREADABLE
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.rdkit_tools import chem, logged, rdkit_version
from mmgnn_dist.chem.readers.records import RecordSource, RecordStream, inspect_records
from mmgnn_dist.chem.readers.source import SequentialStream, Source, Spread, file_content
from mmgnn_dist.chem.readers.table import TableSource
from mmgnn_dist.chem.targets import target_for
from mmgnn_dist.errors import UserError

HEADER = ["idx", "smiles", "homolumogap"]
LABELS = ("data.csv.gz", "data.csv")
SD_SUFFIXES = (".sdf", ".sdf.gz", ".sdf.tar.gz", ".tar.gz")
PCQM_SPLIT = "pcqm4mv2"
GAP = (("homolumogap", *target_for("gap", "eV")),)


class Labelled(NamedTuple):
    """A row of the CSV; `gap` is None in the test parts, or where it is no number."""

    idx: int
    smiles: str
    gap: float | None


def pcqm_labels(path: Path) -> Path | None:
    """Return the CSV of PCQM4Mv2 beside an SD file or archive, None if there is none."""
    if not path.is_file() or not path.name.lower().endswith(SD_SUFFIXES):
        return None
    for name in LABELS:
        labels = path.with_name(name)
        if labels.is_file() and _header(labels) == HEADER:
            return labels
    return None


def labelled_rows(path: Path) -> Iterator[Labelled]:
    """Yield the rows of the CSV in order.

    Raises:
        UserError: it is damaged, or its idx do not count from 0.
    """
    try:
        with _opened(path) as content:
            reader = csv.reader(content)
            next(reader, None)
            for number, row in enumerate(reader):
                if len(row) != len(HEADER) or row[0] != str(number):
                    raise UserError(
                        f"{path}: row {number} is not idx {number} with a SMILES and a gap: get it anew"
                    )
                yield Labelled(number, row[1], float(row[2]) if row[2] else None)
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}): get it anew") from None


def inspect_pcqm4mv2(path: Path, labels: Path, name: str, units: dict[str, str]) -> list[Source]:
    """Recognise an SD archive with its labels as two sources: the published training and validation parts.

    Raises:
        UserError: the CSV has fewer molecules than the archive; also see `inspect_records`.
    """
    own_units = {column: unit for column, unit in units.items() if column != HEADER[2]}
    records = inspect_records(path, name, own_units)
    valid = unlabelled = total = 0
    for row in labelled_rows(labels):
        total += 1
        if row.idx >= records.rows:
            valid += row.gap is not None
            unlabelled += row.gap is None
    if total < records.rows:
        raise UserError(f"{labels} has {total} molecules and {path.name} {records.rows}: get both anew")
    notes = [
        f"PCQM4Mv2: {records.rows} molecules with geometries are its training part, {valid} more its "
        f"validation part, with conformers from SMILES; {unlabelled} molecules of its test "
        "parts have no gap and are not read",
        f"the split '{PCQM_SPLIT}' is the published one: train and val; its test part is drawn from train",
    ]
    fields: dict[str, Any] = {**vars(records), "columns": (*records.columns, *HEADER)}
    fields |= {"targets": (*records.targets, *GAP), "notes": (*records.notes, *notes), "part": "train"}
    train = PcqmTrain(**fields, labels=labels)
    found: list[Source] = [train]
    if valid:
        found.append(
            PcqmValid(
                labels,
                f"{name}-valid",
                valid,
                ("id", *HEADER),
                False,
                GAP,
                (),
                part="val",
                first=records.rows,
            )
        )
    return found


@dataclass(frozen=True)
class PcqmTrain(RecordSource):
    """The SD archive of the training part, with the labels beside it.

    Attributes:
        labels: the CSV.
    """

    labels: Path = Path()

    def content(self) -> list[Any]:
        """Return the values that identify the content."""
        return [*super().content(), *file_content(self.labels)]

    def stream(self, start: int) -> PcqmStream:
        """Open a stream at record `start`."""
        return PcqmStream(self.path, self.labels, start)

    def convert(self, table: pa.Table, start: int, order: list[str], spread: Spread = map) -> Molecules:
        """Parse raw records, and set aside those with other atoms than their SMILES in the CSV."""
        molecules = super().convert(table, start, order, spread)
        smiles = table["smiles"].to_pylist()
        fault, why = molecules.fault.copy(), molecules.why.to_pylist()
        ends = np.cumsum(molecules.z_count)
        for row, text in enumerate(smiles):
            z = molecules.z[ends[row] - molecules.z_count[row] : ends[row]]
            if not fault[row] and _composition(text) != Counter(z.tolist()):
                fault[row] = REASONS.index(UNREADABLE)
                why[row] = f"other atoms than its SMILES in {self.labels.name}: {text[:60]}"
        y = molecules.y.copy()
        y[:, order.index(GAP[0][1].name)] = np.asarray(table[HEADER[2]], np.float64)
        return replace(
            molecules,
            id=_ids(molecules.row.tolist()),
            smiles=pa.array(smiles, pa.large_string()),
            y=y,
            fault=fault,
            why=pa.array(why, pa.large_string()),
        )


class PcqmStream(RecordStream):
    """The raw records with SMILES and gap of the CSV."""

    def __init__(self, path: Path, labels: Path, start: int):
        super().__init__(path, start)
        self._labels = islice(labelled_rows(labels), start, None)

    def table(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Return records with their labels."""
        labels = list(islice(self._labels, len(rows)))
        return _with_labels(super().table(rows), labels)


@dataclass(frozen=True)
class PcqmValid(TableSource):
    """The published validation part: SMILES and gaps.

    Attributes:
        first: idx of its first molecule.
    """

    first: int = 0

    sequential = True

    @property
    def embeds(self) -> bool:
        """Whether its geometries are made from SMILES."""
        return True

    def content(self) -> list[Any]:
        """Return the values that identify the content."""
        return [*file_content(self.path), self.first, rdkit_version()]

    def stream(self, start: int) -> PcqmValidStream:
        """Open a stream at row `start`."""
        rows = (row for row in islice(labelled_rows(self.path), self.first, None) if row.gap is not None)
        return PcqmValidStream(self.path, rows, start)


class PcqmValidStream(SequentialStream[Labelled]):
    """Rows of the validation part."""

    def table(self, rows: list[Labelled]) -> pa.Table:
        """Return rows as a table of ids, SMILES and gaps."""
        return _with_labels(pa.table({"id": _ids([row.idx for row in rows])}), rows)


def _with_labels(table: pa.Table, rows: list[Labelled]) -> pa.Table:
    table = table.append_column("smiles", pa.array([row.smiles for row in rows], pa.large_string()))
    gaps = [np.nan if row.gap is None else row.gap for row in rows]
    return table.append_column(HEADER[2], pa.array(gaps, pa.float64()))


def _ids(indices: list[int]) -> pa.Array:
    return pa.array([f"pcqm4mv2-{idx:07d}" for idx in indices], pa.large_string())


def _composition(smiles: str) -> Counter[int]:
    """Return the number of atoms of each element in a SMILES, with hydrogens; empty if it cannot be read."""
    rdkit = chem()
    with logged():
        mol = rdkit.MolFromSmiles(smiles)
    counts: Counter[int] = Counter()
    for atom in mol.GetAtoms() if mol is not None else ():
        counts[atom.GetAtomicNum()] += 1
        counts[1] += atom.GetTotalNumHs()
    return +counts


def _header(path: Path) -> list[str]:
    try:
        with _opened(path) as content:
            return content.readline(100).strip().split(",")
    except (OSError, EOFError, ValueError):
        return []


def _opened(path: Path) -> Any:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
