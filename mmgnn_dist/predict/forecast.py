"""What a prediction will take: rate, time and size, measured on its first rows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.predict.molecules import check_records
from mmgnn_dist.predict.outputs import check_suffix, write_part
from mmgnn_dist.predict.portions import FilePortions
from mmgnn_dist.predict.predictor import Predictor
from mmgnn_dist.predict.preparation import COSTLY_PORTION, Asked, plan_portions
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.export import read_export
from mmgnn_dist.train.ranks import uses_gpus

MEASURED = 512  # rows
FEW = 32  # rows of which each needs a conformer or a name


@dataclass(frozen=True)
class Forecast:
    """What a prediction will take.

    Attributes:
        rows: rows of the sources.
        portions: number of portions.
        nproc: number of processes.
        rate: rows that a process does in a second.
        measured: number of rows of which the rate was measured.
        seconds: time of all rows, without the start of the processes.
        bytes: size of the output.
    """

    rows: int
    portions: int
    nproc: int
    rate: float
    measured: int
    seconds: float
    bytes: int


def forecast(run: Path, sources: list[str], out: Path, asked: Asked) -> Forecast:
    """Predict the first rows of some sources twice, and measure the second time.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        sources: as of `predict_molecules`.
        out: the output; it is not written.
        asked: what is asked for.

    Raises:
        UserError: as of `predict_molecules`.
    """
    check_suffix(out)
    recipe, export = open_bundle(run, list(asked.overrides)), read_export(RunDir(run))
    with TemporaryDirectory(prefix="mmgnn-forecast-") as name:
        folder = Path(name)
        whole = plan_portions(run, recipe, export, sources, folder, asked)
        check_records(out, whole)
        first = whole.first(FEW if max(whole.sizes) <= COSTLY_PORTION else MEASURED)
        if isinstance(first, FilePortions):
            first.stage()
        predictor = Predictor(run, export, first, asked.level, recipe.train.threads)
        for _ in range(2):
            begin = time.perf_counter()
            found = predictor.predict(0, first.reader()(0), folder / "work")
            write_part(folder / "part", out.suffix, found.table, found.raw)
            seconds = time.perf_counter() - begin
        size = (folder / "part").stat().st_size
    rows, count = sum(whole.sizes), first.sizes[0]
    # processes without a GPU of their own share the cores
    at_once = asked.nproc if uses_gpus() else min(asked.nproc, os.cpu_count() or 1)
    rate = count / seconds
    return Forecast(
        rows, len(whole.sizes), asked.nproc, rate, count, rows / rate / at_once, size * rows // count
    )
