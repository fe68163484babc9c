"""Predictions for molecules of any source that `mmgnn data prepare` reads; labels are not needed.

    sources → shard set in a temporary folder → exported model of a run → table by molecule id

What cannot be read is set aside with its reason beside the table, as in a preparation.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mmgnn_dist.chem.targets import target_for
from mmgnn_dist.data.pipeline import prepare
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json
from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.evaluate import Predictions
from mmgnn_dist.train.export import ABOUT
from mmgnn_dist.train.session import apply_export
from mmgnn_dist.train.setup import open_inputs

FORMATS = (".parquet", ".csv")


@dataclass(frozen=True)
class Outcome:
    """What came of a prediction.

    Attributes:
        out: the table. units: of each target. counts: molecules `in`, `kept` and `set_aside`, with `reasons`.
        aside: what was set aside, None if nothing was.
    """

    out: Path
    units: dict[str, str]
    counts: dict[str, Any]
    aside: Path | None


def predict_molecules(
    run: Path, sources: list[str], out: Path, text: list[Path], overrides: list[str], quiet: bool
) -> Outcome:
    """Predict the targets of a run for the molecules of some sources.

    Args:
        run: run directory, or what `mmgnn export` made of one.
        sources: as `mmgnn data prepare` takes them. text: tables of text fields to join.
        out: table to write, `.parquet` or `.csv`: `id`, the targets in their units, `gate` if there is one.
        overrides: of the recipe, such as data.units or data.workers. quiet: no progress.

    Raises:
        UserError: no trained model there, sources that cannot be read, no molecule left, or a wrong suffix.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"{out}: tables are written as {' or '.join(FORMATS)}")
    recipe = open_bundle(run, overrides)
    units = read_json(run / "export" / ABOUT)["units"]
    data = recipe.data.model_copy(update={"max_bad_fraction": 1.0})  # all that is set aside is told
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".predict-", dir=out.parent) as temporary:
        place = Path(temporary) / "shards"
        with Progress("predict", quiet) as progress:
            expected = [target_for(name, unit)[0] for name, unit in units.items()]
            result = prepare(sources, place, text, data, progress, expected)
            there = recipe.model_copy(update={"data": data.model_copy(update={"shards": place})})
            inputs = open_inputs(there, whole=True)
            found = apply_export(run, inputs, progress)
        _write(out, inputs.shards.ids(found.rows), recipe.targets, found)
        aside = None
        if result.counts["set_aside"]:
            aside = out.with_name(f"{out.stem}.set_aside.parquet")
            shutil.copyfile(place / "quarantine.parquet", aside)
    return Outcome(out, units, result.counts, aside)


def _write(out: Path, ids: np.ndarray, targets: list[str], found: Predictions) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    columns = {"id": ids, **dict(zip(targets, found.predicted.T, strict=True))}
    if found.gate is not None:
        columns["gate"] = found.gate
    with atomic_path(out) as part:
        write = pq.write_table if out.suffix == ".parquet" else pyarrow.csv.write_csv
        write(pa.table(columns), part)
