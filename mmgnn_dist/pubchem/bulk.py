"""The join of molecules with PubChem's bulk files, by Ray Data, without holding a whole file in memory.

One worker scans each file once: first the key file for the wanted InChIKeys, then the other files for the
CIDs of these keys. All files are sorted by CID, so each scan merges two sorted sequences. Rows kept from a
file are staged in `TO.partial`; the same command continues after the files already scanned. At the end the
staged parts are merged in windows of CIDs. Keys are compared by 64-bit hashes: for a hundred million wanted
keys, the odds of one surplus row (which no molecule would join) are about one in a thousand.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.prepare.ray_run import ray_data, watch
from mmgnn_dist.data.shardset.hashing import hash_strings
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, is_staging, read_json, write_json
from mmgnn_dist.pubchem.bulk_merge import PART, Part, choose_cids, member, merged
from mmgnn_dist.pubchem.extras import FIELD_FILES, KEY_FILE, ExtrasFile, Lines, ScanRecord, find_extras
from mmgnn_dist.pubchem.lookup import Report
from mmgnn_dist.pubchem.text_table import (
    TEXT_ABOUT,
    EnrichCounts,
    EnrichResult,
    FoundCounts,
    KeyCounts,
    check_output,
    result_lines,
    source_keys,
    valid_keys,
    write_text_table,
)

STAGED = "mmgnn-bulk"


@dataclass(frozen=True)
class Scan:
    """The scan of one file for the wanted lines.

    Attributes:
        path: the file.
        wanted: .npy file of sorted InChIKey hashes (for the key file) or of sorted CIDs.
        part: Arrow file to make: CID and text of the wanted lines, ascending by CID.
        stamp: identifies the file's content and the wanted lines.
    """

    path: Path
    wanted: Path
    part: Path
    stamp: str

    @property
    def record(self) -> Path:
        """Path of the JSON record written once the file is scanned."""
        return self.part.with_suffix(".json")

    @property
    def meter(self) -> Path:
        """Path of a sparse file whose length is the number of bytes read: one step reads or sets it."""
        return self.part.with_suffix(".read")

    def work(self) -> str:
        """Scan the file unless that is done; return the message of a user error, or ''."""
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
        record: ScanRecord = {"stamp": self.stamp, **file.about()}
        write_json(self.record, record)
        return ""


def _by_key(lines: Lines, wanted: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """Return (CIDs, InChIKeys) of the lines whose key is wanted."""
    rows, keys = lines.keys()
    hits = np.flatnonzero(member(hash_strings(keys), wanted))
    return lines.cid[rows[hits]], keys.take(pa.array(hits))


def _by_cid(lines: Lines, wanted: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """Return (CIDs, texts) of the lines whose CID is wanted; read only their range of `wanted`."""
    first, last = np.searchsorted(wanted, [lines.cid[0], lines.cid[-1] + 1])
    rows = np.flatnonzero(member(lines.cid, wanted[first:last]) & (lines.end > lines.start))
    return lines.cid[rows], lines.texts(rows)


def enrich_bulk(
    source: Path,
    to: Path,
    folder: Path,
    workers: int = 0,
    report: Report | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> EnrichResult:
    """Look up molecules in PubChem's bulk files and write the table of their text.

    Args:
        source: shard set, or Parquet file with a column `inchikey`.
        to: Parquet file to make; one that an earlier enrichment made is replaced.
        folder: holds CID-InChI-Key.gz and some of CID-IUPAC, -Title, -Mass, -SMILES, -Synonym-filtered.
        workers: number of files scanned at a time; 0: the number of CPUs of this machine.
        report: called with the compressed bytes read, their total, and the current step.
        say: called with each line on what will be done.

    Raises:
        UserError: wrong input, a damaged bulk file, or `to` is not the table of an enrichment.
    """
    started = time.monotonic()
    check_output(to)
    files = find_extras(folder)
    missing = [f"{name} ({field})" for field, name in FIELD_FILES.items() if name not in files]
    if missing:
        say(f"not in {folder}, so left empty: {', '.join(missing)}")
    wanted, hashes = _hashes(source)
    stamps = _stamps(files, hashes)
    existing = _standing(to, stamps)
    if existing:
        lines = [*result_lines(to, existing), f"{to} is up to date"]
        return EnrichResult(to, existing, time.monotonic() - started, lines)
    with _staging(to) as staging:
        _save(staging / "keys.npy", hashes)
        del hashes
        scans = {
            name: Scan(
                path,
                staging / ("keys.npy" if name == KEY_FILE else "cids.npy"),
                staging / f"{name}.arrow",
                stamps[name],
            )
            for name, path in files.items()
        }
        _scan(scans, workers or os.cpu_count() or 1, report or (lambda done, total, note: None))
        parts = {name: Part(scan.part) for name, scan in scans.items()}
        records: dict[str, ScanRecord] = {name: read_json(scan.record) for name, scan in scans.items()}
        cids, several = choose_cids(parts)
        found: FoundCounts = {**wanted, "found": len(cids), "several": several}
        coverage = write_text_table(to, merged(parts, cids, records), {"files": records, **found})
        counts: EnrichCounts = {**found, "coverage": coverage}
    lines = result_lines(to, counts)
    for name, record in records.items():
        if record["odd_lines"]:
            lines.append(f"{name}: {record['odd_lines']} lines are not CID, tab, text: left out")
    return EnrichResult(to, counts, time.monotonic() - started, lines)


@contextmanager
def _staging(to: Path) -> Iterator[Path]:
    """Lock the staging folder and yield it; remove it when the work is done."""
    folder = to.with_name(to.name + ".partial")
    about = folder / "about.json"
    if folder.exists() and not is_staging(folder, about.name, ("*.npy", "*.arrow", "*.json")):
        raise UserError(
            f"{folder} exists and is no staging folder of this command: remove it or choose another --to"
        )
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


def _hashes(source: Path) -> tuple[KeyCounts, np.ndarray]:
    """Return (counts of molecules, sorted distinct hashes of their InChIKeys)."""
    molecules, valid, parts = 0, 0, [np.zeros(0, np.uint64)]
    for keys in source_keys(source):
        molecules += len(keys)
        parts.append(hash_strings(valid_keys(keys)))
        valid += len(parts[-1])
    hashes = np.unique(np.concatenate(parts))
    counts: KeyCounts = {"molecules": molecules, "without_key": molecules - valid, "keys": len(hashes)}
    return counts, hashes


def _stamps(files: dict[str, Path], hashes: np.ndarray) -> dict[str, str]:
    """Return the stamp of each scan: a hash of the keys and of size and time of the key file and the file."""
    base = hashlib.sha256(hashes.tobytes())
    stamps = {}
    for name in sorted(files, key=lambda name: name != KEY_FILE):
        state = files[name].stat()
        digest = base.copy()
        digest.update(f"{name} {state.st_size} {state.st_mtime_ns}".encode())
        stamps[name] = digest.hexdigest()
        base = digest if name == KEY_FILE else base  # the key file decides which CIDs are wanted
    return stamps


def _standing(to: Path, stamps: dict[str, str]) -> EnrichCounts | None:
    """Return the counts of the table at `to` if it was made from the same keys and files, else None."""
    if not to.exists():
        return None
    with pq.ParquetFile(to) as file:
        about = json.loads(file.schema_arrow.metadata[TEXT_ABOUT])
        same = {name: record["stamp"] for name, record in about.pop("files", {}).items()} == stamps
        if not same:
            return None
        table = file.read(columns=list(TEXT_FIELDS))
    found: FoundCounts = about
    return {**found, "coverage": {name: len(table) - table[name].null_count for name in TEXT_FIELDS}}


def _save(path: Path, values: np.ndarray) -> None:
    with atomic_path(path) as part, open(part, "wb") as file:
        np.save(file, values)


def _scan(scans: dict[str, Scan], workers: int, report: Report) -> None:
    """Scan the key file, then the others side by side, the largest first."""
    total = sum(scan.path.stat().st_size for scan in scans.values())

    def done() -> int:
        return sum(scan.meter.stat().st_size for scan in scans.values() if scan.meter.exists())

    key_scan, others = scans[KEY_FILE], [scan for name, scan in scans.items() if name != KEY_FILE]
    others.sort(key=lambda scan: -scan.path.stat().st_size)
    with watch(total, done, report) as step, ray_data(workers) as data:
        for scanned in ([key_scan], others):
            step("bytes read, " + ", ".join(scan.path.name.removesuffix(".gz") for scan in scanned))
            items = [{"scan": number} for number in range(len(scanned))]
            results = (
                data.from_items(items, override_num_blocks=len(items))
                .map(BulkWorker(scanned).work, num_cpus=1, concurrency=min(workers, len(items)))
                .take_all()
            )
            errors = [row["error"] for row in sorted(results, key=lambda row: row["scan"]) if row["error"]]
            if errors:
                raise UserError(errors[0])
            if scanned is not others:
                _save(others[0].wanted, np.concatenate([np.zeros(0, np.int64), *Part(key_scan.part).cids()]))
    report(total, total, "merging")


@dataclass(frozen=True)
class BulkWorker:
    """Runs the scans that Ray Data assigns by number."""

    scans: list[Scan]

    def work(self, row: dict[str, int]) -> dict[str, int | str]:
        """Run one scan."""
        return {"scan": row["scan"], "error": self.scans[row["scan"]].work()}
