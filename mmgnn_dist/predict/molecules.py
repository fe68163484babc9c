"""Predictions for molecules of any source that `mmgnn data prepare` reads, or of a shard set, without labels.

    sources -> portions of rows -> exported model of a run -> parts of the output -> the output

There is one row of output for each row of input, in their order, with a reason where there is no prediction.
Memory does not grow with the number of molecules, except for 8 bytes a row that tell repeated ids apart.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.prepare.ray_run import interruptible
from mmgnn_dist.data.shardset.manifest import MoleculeCounts
from mmgnn_dist.data.shardset.set_aside import QUARANTINE
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path
from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.predict.notes import prediction_notes
from mmgnn_dist.predict.outputs import SD_SUFFIX, check_suffix
from mmgnn_dist.predict.parts import Parts
from mmgnn_dist.predict.portions import FilePortions, Portions
from mmgnn_dist.predict.predictor import PortionRecord, Predictor
from mmgnn_dist.predict.preparation import Asked, plan_portions
from mmgnn_dist.predict.processes import Work, work_through
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.application.conformal import check_level
from mmgnn_dist.train.checkpoint.export import read_export
from mmgnn_dist.train.ranks import check_gpus

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class Predicted:
    """Predictions for the molecules of some sources.

    Attributes:
        table: one row for each row of the sources (see `prediction_table`).
        vectors: float32 [n, H] by name, if asked for; NaN where there is no prediction.
        notes: lines on the sources, and on differences between these molecules and the training set.
    """

    table: pa.Table
    vectors: dict[str, np.ndarray]
    notes: list[str]


@dataclass(frozen=True)
class Outcome:
    """Result of a prediction that was written.

    Attributes:
        out: path of the table.
        units: unit of each target.
        counts: molecules `in`, `kept` and `set_aside`, with `reasons`.
        aside: table of the molecules set aside, None if there are none.
        notes: lines on the sources, and on differences between these molecules and the training set.
    """

    out: Path
    units: dict[str, str]
    counts: MoleculeCounts
    aside: Path | None
    notes: list[str]


def predict_molecules(run: Path, sources: list[str], out: Path, asked: Asked) -> Outcome:
    """Predict the targets of a run for the molecules of some sources, and write a table of them.

    The work is done in portions, whose parts are kept in `OUT.partial` until all are done: the same call
    continues after any end.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        sources: sources as for `mmgnn data prepare`, or one shard set.
        out: table to write, `.parquet`, `.csv` or `.jsonl`: see `table.prediction_table`; or `.sdf`, the
            records of SD files with the predictions as further data fields.
        asked: what is asked for.

    Raises:
        UserError: `run` has no trained model, a source cannot be read, or `out` cannot be written.
        TryAgain: a process died.
    """
    check_suffix(out)
    check_level(asked.level)
    recipe, export = open_bundle(run, list(asked.overrides)), read_export(RunDir(run))
    _check_writable(out)
    check_gpus(asked.nproc)
    parts = Parts(out)
    with Progress("predict", asked.quiet) as progress, interruptible():
        progress(0, 0, "counting the molecules of the sources")
        portions = plan_portions(run, recipe, export, sources, parts.folder, asked)
        check_records(out, portions)
        threads = recipe.train.threads
        if asked.nproc > 1 and not threads:
            threads = max(1, (os.cpu_count() or 1) // asked.nproc)
        with parts.opened(_job(recipe, export, portions, asked)) as stale:
            if stale:
                progress.say(f"{parts.folder} was of other molecules or settings: it starts anew")
            if isinstance(portions, FilePortions):
                portions.stage()
            total = sum(portions.sizes)
            done = sum(size for number, size in enumerate(portions.sizes) if parts.is_done(number))
            progress(done, total)

            def moved(rows: int) -> None:
                nonlocal done
                done += rows
                progress(done, total)

            work_through(Work(run, export, portions, asked.level, threads, out), asked.nproc, moved)
            aside, records = _gather(out, parts, len(portions.sizes))
            parts.join(len(portions.sizes))
    counts, notes = _told(recipe, export, portions, records)
    return Outcome(out, export["units"], counts, aside, notes)


def predict_sources(run: Path, sources: list[str], folder: Path, asked: Asked) -> Predicted:
    """Predict the targets of a run for the molecules of some sources, in memory.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        sources: as of `predict_molecules`.
        folder: folder for temporary files.
        asked: what is asked for.

    Raises:
        UserError: as in `predict_molecules`.
    """
    import numpy as np
    import pyarrow as pa

    check_level(asked.level)
    recipe, export = open_bundle(run, list(asked.overrides)), read_export(RunDir(run))
    portions = plan_portions(run, recipe, export, sources, folder, asked)
    if isinstance(portions, FilePortions):
        portions.stage()
    predictor = Predictor(run, export, portions, asked.level, recipe.train.threads)
    read = portions.reader()
    found = [
        predictor.predict(number, read(number), folder / "work", asked.vectors)
        for number in range(len(portions.sizes))
    ]
    widths = {name: values.shape[1] for portion in found for name, values in portion.vectors.items()}
    vectors = {}
    for name, width in widths.items():
        blocks = [np.full((len(portion.rows.kept), width), np.nan, np.float32) for portion in found]
        for block, portion in zip(blocks, found, strict=True):
            if name in portion.vectors:
                block[portion.rows.kept >= 0] = portion.vectors[name]
        vectors[name] = np.concatenate(blocks)
    _, notes = _told(recipe, export, portions, [portion.record for portion in found])
    return Predicted(pa.concat_tables([portion.table for portion in found]), vectors, notes)


def check_records(out: Path, portions: Portions) -> None:
    """Refuse an SD file as output where a source has no records of SD files.

    Raises:
        UserError: there is such a source.
    """
    if out.suffix != SD_SUFFIX:
        return
    sources = portions.plan.sources if isinstance(portions, FilePortions) else ()
    other = [source.path.name for source in sources if source.formats != ("SD",)]
    if other or not sources:
        raise UserError(
            f"{out}: an SD file repeats the records of SD files, and {other[0] if other else 'a shard set'} "
            "has none: write .csv, .parquet or .jsonl"
        )


def _job(recipe: Recipe, export: ExportRecord, portions: Portions, asked: Asked) -> str:
    """Return what decides the output, but for the version of the program in `portions`."""
    values = recipe.model_dump(mode="json", include={"targets", "model", "text", "train"})
    parts = [values, export.get("sha256"), portions.identity, portions.sizes, asked.level, export["units"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _told(
    recipe: Recipe, export: ExportRecord, portions: Portions, records: Sequence[PortionRecord]
) -> tuple[MoleculeCounts, list[str]]:
    """Return what became of all molecules, and the lines on them."""
    reasons = sum((Counter(record["reasons"]) for record in records), Counter[str]())
    rows = sum(record["rows"] for record in records)
    counts: MoleculeCounts = {
        "in": rows,
        "kept": rows - reasons.total(),
        "set_aside": reasons.total(),
        "reasons": dict(sorted(reasons.items())),
    }
    known = [record["trained_on"] for record in records]
    total = portions.total(counts, [record["record"] for record in records if record["record"] is not None])
    of_these = None if None in known else sum(number or 0 for number in known)
    return counts, [*portions.notes, *prediction_notes(recipe, export, total, counts, of_these)]


def _gather(out: Path, parts: Parts, count: int) -> tuple[Path | None, list[PortionRecord]]:
    """Write the table of the molecules that were set aside, if there are any; return it and all records.

    The records are returned without these molecules, which may be many.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, records = out.with_name(f"{out.stem}.set_aside.parquet"), list[PortionRecord]()
    with atomic_path(path) as part, pq.ParquetWriter(part, QUARANTINE) as writer:
        for number in range(count):
            record = parts.record(number)
            rows = [dict(row) for row in record["aside"]]
            writer.write_table(pa.Table.from_pylist(rows, schema=QUARANTINE))
            records.append({**record, "aside": []})
    if not any(record["reasons"] for record in records):
        path.unlink()
        return None, records
    return path, records


def _check_writable(out: Path) -> None:
    """Refuse an output that cannot be made.

    Raises:
        UserError: it is a folder, or in none that can be written.
    """
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{out} cannot be written: give another place for -o")
