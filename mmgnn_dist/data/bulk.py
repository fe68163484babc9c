"""The join of molecules with PubChem's bulk files, by Ray Data, without holding any of them in memory.

Every file is scanned once by one worker: the key file for the InChIKeys that are wanted, then the others for
the CIDs that these have. All are sorted by CID, so each scan is a merge of two sorted sequences. What is kept
of a file is staged in `TO.partial`; the same command continues from the files already scanned. At the end the
staged parts are merged in windows of CIDs. Keys are compared by 64-bit hashes: for a hundred million wanted
keys, the odds of one row too many (which no molecule would join) are about one in a thousand.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmgnn_dist.chem.pubchem.extras import FIELD_FILES, KEY_FILE, ExtrasFile, Lines, find_extras
from mmgnn_dist.chem.pubchem.lookup import NAMES, Report
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.engine import ray_data, watch
from mmgnn_dist.data.hashing import hash_strings
from mmgnn_dist.data.texttable import (
    ABOUT,
    ROWS,
    SCHEMA,
    EnrichResult,
    check_output,
    result_lines,
    source_keys,
    valid_keys,
    write_text_table,
)
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json, write_json

STAGED = "mmgnn-bulk"
PART = pa.schema([("cid", pa.int64()), ("text", pa.large_string())])


@dataclass(frozen=True)
class Scan:
    """The scan of one file for what is wanted of it.

    Attributes:
        path: the file.
        wanted: .npy file of sorted hashes of InChIKeys (for the key file) or of sorted CIDs.
        part: Arrow file to make: CID and text of the lines wanted, ascending by CID.
        stamp: stands for the file's content and for what is wanted of it.
    """

    path: Path
    wanted: Path
    part: Path
    stamp: str

    @property
    def record(self) -> Path:
        """What is known of the file once it is scanned."""
        return self.part.with_suffix(".json")

    @property
    def meter(self) -> Path:
        """A sparse file as long as what has been read: its length is read and set in one step."""
        return self.part.with_suffix(".read")

    def work(self) -> str:
        """Scan, unless it is done; the message of what the user did wrong, or ''."""
        if self.record.is_file() and read_json(self.record)["stamp"] == self.stamp:
            return ""
        wanted = np.load(self.wanted, mmap_mode="r")
        find = _by_key if self.path.name.startswith(KEY_FILE) else _by_cid
        file = ExtrasFile(self.path)
        self.meter.touch()
        try:
            with atomic_path(self.part) as part, pa.ipc.new_file(str(part), PART) as writer:
                for lines in file.lines():
                    cid, text = find(lines, wanted)
                    if len(cid):
                        writer.write_batch(pa.record_batch([pa.array(cid), text], schema=PART))
                    os.truncate(self.meter, file.read)
        except UserError as error:
            return str(error)
        write_json(self.record, {"stamp": self.stamp, **file.about()})
        return ""


def _by_key(lines: Lines, wanted: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """(CIDs, InChIKeys) of the lines whose key is wanted."""
    rows, keys = lines.keys()
    hit = np.flatnonzero(_member(hash_strings(keys), wanted))
    return lines.cid[rows[hit]], keys.take(pa.array(hit))


def _by_cid(lines: Lines, wanted: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """(CIDs, texts) of the lines whose CID is wanted; only the stretch of `wanted` that they span is read."""
    first, last = np.searchsorted(wanted, [lines.cid[0], lines.cid[-1] + 1])
    rows = np.flatnonzero(_member(lines.cid, wanted[first:last]))
    return lines.cid[rows], lines.texts(rows)


def _member(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Whether each value is in a sorted array, bool [n]."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[place] == values)


def enrich_bulk(
    source: Path,
    to: Path,
    folder: Path,
    workers: int = 0,
    report: Report | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> EnrichResult:
    """Look the molecules up in PubChem's bulk files and write the table of what they have.

    Args:
        source: shard set, or Parquet file with a column `inchikey`.
        to: Parquet file to make; one that an earlier enrichment made is replaced.
        folder: holds CID-InChI-Key.gz and some of CID-IUPAC, -Title, -Mass, -SMILES, -Synonym-filtered.
        workers: files scanned at a time; 0: the CPUs of this machine.
        report: called with compressed bytes read, of how many, and what is being done.
        say: given lines on what will be done.

    Raises:
        UserError: wrong input, a damaged bulk file, or `to` is something else.
    """
    began = time.monotonic()
    check_output(to)
    files = find_extras(folder)
    missing = [f"{name} ({field})" for field, name in FIELD_FILES.items() if name not in files]
    if missing:
        say(f"not in {folder}, so left empty: {', '.join(missing)}")
    with _staging(to) as staging:
        counts, hashes = _hashes(source)
        stamps = _stamps(files, hashes)
        standing = _standing(to, stamps)
        if standing:
            lines = [*result_lines(to, standing), f"{to} is up to date"]
            return EnrichResult(to, standing, time.monotonic() - began, lines)
        _save(staging / "keys.npy", hashes)
        del hashes
        scans = {
            name: Scan(
                path, staging / ("keys.npy" if name == KEY_FILE else "cids.npy"), staging / f"{name}.arrow",
                stamps[name],
            )
            for name, path in files.items()
        }  # fmt: skip
        _scan(scans, workers or os.cpu_count() or 1, report or (lambda done, total, note: None))
        parts = {name: Part(scan.part) for name, scan in scans.items()}
        records = {name: read_json(scan.record) for name, scan in scans.items()}
        rows, several = _choose(parts)
        counts |= {"found": len(rows), "several": several}
        about = {"files": records, **counts}
        counts["coverage"] = write_text_table(to, _windows(parts, rows, records), about)
    return EnrichResult(to, counts, time.monotonic() - began, result_lines(to, counts))


@contextmanager
def _staging(to: Path) -> Iterator[Path]:
    """The staging folder, locked; removed when the work is done."""
    folder = to.with_name(to.name + ".partial")
    about = folder / "about.json"
    if folder.exists() and not (folder.is_dir() and (about.is_file() or not any(folder.iterdir()))):
        raise UserError(f"{folder} is in the way and not ours: remove it or choose another --to")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from None
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another enrichment is writing {to}: wait for it") from None
        write_json(about, {"kind": STAGED})
        yield folder
        shutil.rmtree(folder)


def _hashes(source: Path) -> tuple[dict[str, Any], np.ndarray]:
    """(counts of molecules, sorted distinct hashes of their InChIKeys)."""
    molecules, valid, parts = 0, 0, [np.zeros(0, np.uint64)]
    for keys in source_keys(source):
        molecules += len(keys)
        parts.append(hash_strings(valid_keys(keys)))
        valid += len(parts[-1])
    hashes = np.unique(np.concatenate(parts))
    return {"molecules": molecules, "without_key": molecules - valid, "keys": len(hashes)}, hashes


def _stamps(files: dict[str, Path], hashes: np.ndarray) -> dict[str, str]:
    """What decides the scan of each file: its size and time, those of the key file, and the keys."""
    wanted = hashlib.sha256(hashes.tobytes())
    stamps = {}
    for name in sorted(files, key=lambda name: name != KEY_FILE):
        state = files[name].stat()
        digest = wanted.copy()
        digest.update(f"{name} {state.st_size} {state.st_mtime_ns}".encode())
        stamps[name] = digest.hexdigest()
        wanted = digest if name == KEY_FILE else wanted  # the key file decides which CIDs are wanted
    return stamps


def _standing(to: Path, stamps: dict[str, str]) -> dict[str, Any] | None:
    """The counts of the table at `to`, if it was made of the same keys and files."""
    if not to.exists():
        return None
    with pq.ParquetFile(to) as file:
        about = json.loads(file.schema_arrow.metadata[ABOUT])
        same = {name: held["stamp"] for name, held in about.pop("files", {}).items()} == stamps
        if not same:
            return None
        table = file.read(columns=list(TEXT_FIELDS))
    return about | {"coverage": {name: len(table) - table[name].null_count for name in TEXT_FIELDS}}


def _save(path: Path, values: np.ndarray) -> None:
    with atomic_path(path) as part, open(part, "wb") as file:
        np.save(file, values)


def _scan(scans: dict[str, Scan], workers: int, report: Report) -> None:
    """Scan the key file, then the others side by side, the largest first."""
    total = sum(scan.path.stat().st_size for scan in scans.values())

    def done() -> int:
        return sum(scan.meter.stat().st_size for scan in scans.values() if scan.meter.exists())

    key, others = scans[KEY_FILE], [scan for name, scan in scans.items() if name != KEY_FILE]
    others.sort(key=lambda scan: -scan.path.stat().st_size)
    with watch(total, done, report) as step, ray_data(workers) as data:
        for scanned in ([key], others):
            step("bytes read, " + ", ".join(scan.path.name.removesuffix(".gz") for scan in scanned))
            items = [{"scan": number} for number in range(len(scanned))]
            results = (
                data.from_items(items, override_num_blocks=len(items))
                .map(Worker(scanned).work, num_cpus=1, concurrency=min(workers, len(items)))
                .take_all()
            )
            errors = [row["error"] for row in sorted(results, key=lambda row: row["scan"]) if row["error"]]
            if errors:
                raise UserError(errors[0])
            if scanned is not others:
                _save(others[0].wanted, np.unique(Part(key.part).cid))
    report(total, total, "merging")


@dataclass(frozen=True)
class Worker:
    """Does the scans that Ray Data hands out by number."""

    scans: list[Scan]

    def work(self, row: dict[str, Any]) -> dict[str, Any]:
        """One scan."""
        return {"scan": row["scan"], "error": self.scans[row["scan"]].work()}


class Part:
    """What was kept of one file, memory-mapped: `cid` int64 [n], ascending, and `text` of as many rows."""

    def __init__(self, path: Path):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self.cid = table["cid"].to_numpy()
        self.text = table["text"]

    def between(self, first: int, last: int) -> tuple[np.ndarray, pa.Array]:
        """(CIDs, texts) of the rows whose CID is in [first, last]."""
        start, end = np.searchsorted(self.cid, [first, last + 1])
        return self.cid[start:end], self.text.slice(start, end - start).combine_chunks()


def _choose(parts: dict[str, Part]) -> tuple[np.ndarray, int]:
    """(rows of the key file's part, one for each key, ascending; number of keys with several CIDs).

    Of several CIDs of one key the lowest with a name is taken, else the lowest.
    """
    keys = parts[KEY_FILE]
    if not len(keys.cid):
        return np.zeros(0, np.int64), 0
    named = np.zeros(len(keys.cid), bool)
    for field in NAMES:
        if FIELD_FILES[field] in parts:
            named |= _member(keys.cid, parts[FIELD_FILES[field]].cid)
    identity = hash_strings(keys.text)
    order = np.lexsort((keys.cid, ~named, identity))
    first = np.flatnonzero(np.append(True, np.diff(identity[order]) != 0))
    sizes = np.diff(np.append(first, len(order)))
    return np.sort(order[first]), int(np.sum(sizes > 1))


def _windows(parts: dict[str, Part], rows: np.ndarray, records: dict[str, Any]) -> Iterator[pa.Table]:
    """The output, a window of CIDs at a time."""
    keys = parts[KEY_FILE]
    origins = {
        field: f"{name} of {records[name]['date']}" for field, name in FIELD_FILES.items() if name in records
    }
    for first in range(0, len(rows), ROWS):
        window = rows[first : first + ROWS]
        cid = keys.cid[window]
        columns: dict[str, pa.Array] = {field.name: pa.nulls(len(cid), field.type) for field in SCHEMA}
        columns["cid"] = pa.array(cid)
        columns["inchikey"] = keys.text.take(pa.array(window)).combine_chunks().cast(pa.string())
        for field, name in FIELD_FILES.items():
            if name in parts:
                held, text = parts[name].between(int(cid[0]), int(cid[-1]))
                columns[field] = (_lists if field == "synonyms" else _singles)(cid, held, _trimmed(text))
        columns["field_sources"] = _sources(columns, origins)
        yield pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _trimmed(text: pa.Array) -> pa.Array:
    """Texts up to the first tab, without blanks at the ends; null where nothing is left."""
    text = pc.utf8_trim_whitespace(pc.list_element(pc.split_pattern(text, "\t", max_splits=1), 0))
    return pc.if_else(pc.equal(text, ""), None, text).cast(pa.string())


def _singles(cid: np.ndarray, held: np.ndarray, text: pa.Array) -> pa.Array:
    """The text of each CID, null where there is none."""
    hit = _member(cid, held)
    return text.take(pa.array(np.searchsorted(held, cid), mask=~hit))


def _lists(cid: np.ndarray, held: np.ndarray, text: pa.Array) -> pa.Array:
    """The texts of each CID as a list, null where there are none."""
    kept = np.flatnonzero(np.asarray(text.is_valid()))
    held = held[kept]
    start, end = np.searchsorted(held, cid), np.searchsorted(held, cid, side="right")
    size = end - start
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
    places = kept[np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], size)]
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), text.take(pa.array(places)), mask=pa.array(size == 0)
    )


def _sources(columns: dict[str, pa.Array], origins: dict[str, str]) -> pa.Array:
    """JSON object field -> origin of each row, made once for each set of fields present."""
    fields = [field for field in TEXT_FIELDS if field in origins]
    bits = sum(
        np.asarray(columns[field].is_valid(), dtype=np.int64) << bit for bit, field in enumerate(fields)
    )
    patterns, which = np.unique(bits, return_inverse=True)
    said = [
        {field: origins[field] for bit, field in enumerate(fields) if pattern >> bit & 1}
        for pattern in patterns.tolist()
    ]
    return pa.array([json.dumps(entry) if entry else None for entry in said], pa.string()).take(
        pa.array(which)
    )
