"""Preparation: from files of molecules to a shard set, by Ray Data.

`read → join text → check → shard` runs one chunk of rows at a time, in Ray workers, or for small sources in
this process; the driver finds duplicate ids, adds up the records and renames the whole set into place, so
`TO` is complete or absent. Until then all files are in `TO.partial`, where the same command continues after
an interruption.

Counts always add up: in = kept + set aside. Molecules that QM9's authors advise against (`uncharacterized`)
are set aside like damaged ones, but they do not count towards `data.max_bad_fraction`.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmgnn_dist.chem.targets import Target
from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.prepare.chunks import Staging, staging_folder
from mmgnn_dist.data.prepare.duplicates import drop_duplicates
from mmgnn_dist.data.prepare.in_process import is_small, run_in_process
from mmgnn_dist.data.prepare.notes import note_lines, write_notes
from mmgnn_dist.data.prepare.own_split import store_own_split
from mmgnn_dist.data.prepare.plan import PreparePlan, TrainedModelSpec, make_prepare_plan
from mmgnn_dist.data.prepare.ray_run import run_chunks
from mmgnn_dist.data.prepare.set_manifest import count_molecules, make_manifest
from mmgnn_dist.data.prepare.staged_labels import decided_kinds, set_deviating_aside, target_lines
from mmgnn_dist.data.prepare.state_counts import state_lines
from mmgnn_dist.data.prepare.text.join import stage_text
from mmgnn_dist.data.prepare.text.text_report import text_lines
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord
from mmgnn_dist.data.shardset.groups import count_identities
from mmgnn_dist.data.shardset.manifest import MoleculeCounts, ShardManifest
from mmgnn_dist.data.shardset.set_aside import QUARANTINE, reasons_in_words, refuse_bad
from mmgnn_dist.data.shardset.shards import MANIFEST, ShardSet, read_manifest
from mmgnn_dist.data.shardset.splits import PARTS, make_split
from mmgnn_dist.errors import DamagedFile, UserError, WrongInput
from mmgnn_dist.files import atomic_path, is_staging, read_json, write_json

Progress = Callable[[int, int, str], None]  # molecules done, molecules in all, present step
STAGED = "mmgnn-preparation"


@dataclass(frozen=True)
class PrepareResult:
    """Result of a preparation.

    Attributes:
        path: the shard set.
        counts: `in`, `kept`, `set_aside` and `reasons`.
        shards: number of shards.
        seconds: wall time in s, including the start of Ray if it is needed.
        up_to_date: the set existed already, nothing was done.
        notes: what the user should know about the sources.
        lines: the whole report for the terminal; the last line counts the molecules set aside.
    """

    path: Path
    counts: MoleculeCounts
    shards: int
    seconds: float
    up_to_date: bool
    notes: list[str]
    lines: list[str]


def prepare(
    sources: list[str],
    to: Path,
    text: list[Path] | None = None,
    data: DataConfig | None = None,
    progress: Progress | None = None,
    learned: TrainedModelSpec | None = None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> PrepareResult:
    """Make a shard set, or continue one that was interrupted.

    Args:
        sources: files of molecules, archives, folders, or the word `sample` (see `chem.readers`).
        to: folder to make.
        text: Parquet tables of text fields to join, the most important first.
        data: `rows_per_shard`, `workers`, `units`, `providers`, `max_bad_fraction`.
        progress: called from a separate thread with molecules done, all molecules and the present step.
        learned: a trained model that will be applied to the set; the set then needs no labels and no split.
        around: joins a Ray cluster if one is needed; by default Ray starts on this machine.

    Raises:
        UserError: wrong input, too many bad molecules, no molecule left, or `to` holds something else (no
            files are left behind).
        TryAgain: Ray does not start; the same command continues.
    """
    began = time.monotonic()
    data = data or DataConfig.model_validate({})
    report = progress or (lambda done, total, note: None)
    to = Path(to)
    report(0, 0, "counting the molecules of the sources")
    plan = make_prepare_plan(sources, text or [], data, learned)
    if to.exists():
        return _standing(plan, to, began)
    with _staging(to, plan) as staging:
        for number, table in enumerate(plan.text):
            if not staging.text(number).is_file():
                stage_text(table, staging.text(number), plan.text_columns)
        without_ray = learned is not None and find_spec("ray") is None  # as in the light extra `predict`
        if data.workers == 0 and (without_ray or is_small(plan)):
            run_in_process(plan, staging, report)
        else:
            with around():
                run_chunks(plan, staging, data.workers, report)
        report(plan.rows, plan.rows, "duplicate ids")
        drop_duplicates(plan, staging)
        if learned is None:
            report(plan.rows, plan.rows, "labels")
            set_deviating_aside(plan, staging)
        targets, kinds = decided_kinds(plan, staging)
        records = [staging.read_record(chunk) for chunk in range(len(plan.chunks))]
        counts = count_molecules(records)
        refuse_bad(counts, data.max_bad_fraction, records)
        report(plan.rows, plan.rows, "manifest")
        _finish(plan, staging, records, counts, targets, kinds, split=learned is None)
        staging.final.rename(to)
    return _result(to, read_manifest(to), plan, time.monotonic() - began, up_to_date=False)


def _standing(plan: PreparePlan, to: Path, began: float) -> PrepareResult:
    """Result if `to` exists: up to date, or an error."""
    if not to.is_dir() or not (to / MANIFEST).is_file():
        raise UserError(f"{to} exists and is not a shard set: choose another place for --to")
    manifest = read_manifest(to)
    if manifest.get("prepare", {}).get("plan") != plan.fingerprint:
        raise UserError(
            f"{to} holds a shard set of other sources or settings: choose another --to, or remove it"
        )
    ShardSet.open(to, verify=False)
    return _result(to, manifest, plan, time.monotonic() - began, up_to_date=True)


@contextmanager
def _staging(to: Path, plan: PreparePlan) -> Iterator[Staging]:
    """Lock the staging folder of this plan; remove it when done or when the input is wrong."""
    folder = staging_folder(to)
    plan_file = folder / "plan.json"
    if folder.exists() and not is_staging(folder, plan_file.name, ("set", "records", "text-*.arrow")):
        raise UserError(f"{folder} is in the way and not ours: remove it or choose another --to")
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from None
    staging = Staging(folder)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another preparation is writing {to}: wait for it") from None
        try:
            if not _continues(plan_file, plan):
                for stale in (staging.final, staging.records):
                    shutil.rmtree(stale, ignore_errors=True)
                for table in folder.glob("text-*.arrow"):
                    table.unlink()
            write_json(plan_file, {"kind": STAGED, "plan": plan.fingerprint})
            staging.final.mkdir(exist_ok=True)
            staging.records.mkdir(exist_ok=True)
            yield staging
        except WrongInput:
            shutil.rmtree(folder)
            for path in new_folders[1:]:
                path.rmdir()
            raise
        shutil.rmtree(folder)


def _continues(plan_file: Path, plan: PreparePlan) -> bool:
    """Whether the staged work is of this plan; where the file is damaged or lost that cannot be known."""
    if not plan_file.is_file():
        return False
    try:
        staged = read_json(plan_file)
    except DamagedFile as damage:
        print(f"{damage.args[0].partition(':')[0]}: the preparation begins anew", file=sys.stderr)
        return False
    return bool(staged == {"kind": STAGED, "plan": plan.fingerprint})


def _finish(
    plan: PreparePlan,
    staging: Staging,
    records: list[ChunkRecord],
    counts: MoleculeCounts,
    targets: Sequence[Target],
    kinds: dict[str, str],
    split: bool,
) -> None:
    """Write quarantine, manifest and, if there are enough molecules, the default split."""
    for chunk, record in enumerate(records):
        if not record["entry"]["rows"]:
            staging.shard(chunk).unlink()
    with (
        atomic_path(staging.final / "quarantine.parquet") as part,
        pq.ParquetWriter(part, QUARANTINE) as writer,
    ):
        for record in records:
            rows = sorted(record["quarantine"], key=lambda entry: entry["at"])
            writer.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=QUARANTINE))
    manifest = make_manifest(plan, records, counts, targets, kinds)
    if notes := write_notes(staging.final, records):
        manifest["notes"] = notes
    shards = ShardSet(staging.final, manifest)
    manifest["identities"] = count_identities(shards)
    write_json(staging.final / MANIFEST, manifest)
    if split and manifest["identities"]["distinct"] >= len(PARTS):
        make_split(shards)
        store_own_split(plan, records, shards)


def _result(
    to: Path, manifest: ShardManifest, plan: PreparePlan, seconds: float, up_to_date: bool
) -> PrepareResult:
    counts = manifest["counts"]
    notes = [note for source in plan.sources for note in source.notes]
    lines = list(notes)
    lines += target_lines(plan.sources, manifest["prepare"].get("kinds", {}))
    if counts["in"] != plan.rows:
        lines.append(f"{plan.rows} SMILES and geometries gave {counts['in']} molecules (data.conformers)")
    lines += note_lines(manifest.get("notes", {}))
    for table in manifest["text"]:
        joins = ", ".join(f"{number} by {kind}" for kind, number in table["joined"].items())
        lines.append(f"{table['name']}: text found for {sum(table['joined'].values())} molecules ({joins})")
    lines += text_lines(manifest)
    identities = manifest["identities"]
    if manifest.get("conformers"):
        lines.append(
            "conformers of one molecule, or of one formula where a file says no more, stay together in "
            "splits; 'mmgnn data split SHARDS --group none' deals them out one by one"
        )
    elif identities["id"]:
        lines.append(
            f"{identities['id']} molecules have neither InChIKey nor SMILES: splits tell them apart by id "
            "alone, so conformers of one of them may be in several parts"
        )
    if identities["smiles"]:
        lines.append(
            f"{identities['smiles']} molecules without InChIKey go together by the text of their SMILES"
        )
    if identities["distinct"] < len(PARTS):
        lines.append(f"no split: {identities['distinct']} distinct molecules, a split takes {len(PARTS)}")
    lines += state_lines(manifest)
    targets = ", ".join(
        f"{target['name']} [{target['unit'] or ' | '.join(target['classes'])}]"
        for target in manifest["targets"]
    )
    lines.append(f"targets: {targets}")
    shards = len(manifest["shards"])
    if up_to_date:
        lines.append(f"{to} is up to date: {manifest['rows']} molecules in {shards} shards")
    else:
        rate = counts["in"] / seconds
        size = f"{manifest['rows']} molecules in {shards} shards"
        lines.append(f"{to}: {size}, {seconds:.1f} s ({rate:,.0f} molecules/s)")
    aside = f" ({reasons_in_words(counts)}), see quarantine.parquet" if counts["set_aside"] else ""
    lines.append(f"{counts['in']} in, {counts['kept']} kept, {counts['set_aside']} set aside{aside}")
    return PrepareResult(to, counts, shards, seconds, up_to_date, notes, lines)
