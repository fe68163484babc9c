"""Everything of a run directory that its page shows; what is missing there is told, not guessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine, RunMetrics
from mmgnn_dist.study.report.groups import Kinds, kinds_of
from mmgnn_dist.train.report.scores import NumberScores, number_scores
from mmgnn_dist.train.stored.recipe import has_data, stored_recipe
from mmgnn_dist.train.tracking.journal import read_journal


@dataclass
class ShownRun:
    """A run to look at.

    Attributes:
        path: its directory.
        recipe: its recipe.
        journal: its journal.
        metrics: its results; None while it is not finished.
        table: its predictions; None while it is not finished.
        versions: versions of the packages.
        twins: its twins that have begun.
        kinds: sizes, groups and text of the test molecules; None without the shard set.
        smiles: SMILES of the test molecules, None where there is none.
        notes: what could not be shown, and why.
    """

    path: Path
    recipe: Recipe
    journal: list[JournalLine]
    metrics: RunMetrics | None = None
    table: pa.Table | None = None
    versions: dict[str, str] = field(default_factory=dict)
    twins: list[ShownRun] = field(default_factory=list)
    kinds: Kinds | None = None
    smiles: list[str | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the directory; a twin has that of its run, too."""
        return (
            f"{self.path.parents[1].name}, {self.path.name}"
            if self.path.parent.name == "twins"
            else self.path.name
        )

    @property
    def numbers(self) -> list[str]:
        """Targets that are numbers and have predictions."""
        columns = self.table.column_names if self.table is not None else []
        return [name for name in self.recipe.targets if f"{name}_pred" in columns and not self._classes(name)]

    def _classes(self, name: str) -> bool:
        assert self.table is not None
        return any(column.startswith(f"{name}_p_") for column in self.table.column_names)

    def values(self, target: str) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (NaN without one) and predictions of a target [n]."""
        assert self.table is not None
        return tuple(  # type: ignore[return-value]
            np.asarray(self.table[f"{target}_{kind}"].to_numpy(), float) for kind in ("true", "pred")
        )

    def scores(self) -> dict[str, NumberScores]:
        """Return the scores of each target that is a number."""
        return {name: number_scores(*self.values(name)) for name in self.numbers}

    def unit(self, target: str) -> str:
        """Return the unit of a target."""
        return self.metrics["units"].get(target, "") if self.metrics else ""

    def relative_errors(self) -> np.ndarray:
        """Return the mean over the targets of each molecule's error in units of the target's MAE [n]."""
        shares = []
        for name in self.numbers:
            true, found = self.values(name)
            errors = np.abs(found - true)
            mae = np.nanmean(errors) if np.isfinite(errors).any() else np.nan
            shares.append(errors / mae if mae > 0 else np.full(len(errors), np.nan))
        if not shares:
            return np.zeros(0)
        stacked = np.stack(shares)
        known = np.isfinite(stacked)
        sums, counts = np.where(known, stacked, 0.0).sum(0), known.sum(0)
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def read_run(folder: Path, with_data: bool = True) -> ShownRun:
    """Read a run directory, finished or not.

    Args:
        folder: the run directory.
        with_data: also read sizes, groups and text of the test molecules from the shard set.

    Raises:
        UserError: the folder is no run directory.
    """
    run = RunDir(folder)
    if not run.recipe.is_file() or not run.journal.is_file():
        below = sorted(path.parent for path in folder.glob("*/recipe.yaml"))
        hint = f"; {folder} holds runs, such as {below[0]}" if below else ", made by 'mmgnn train RECIPE'"
        raise UserError(f"{folder} is no run directory: name one{hint}")
    shown = ShownRun(folder, stored_recipe(run), read_journal(run.journal))
    shown.versions = read_json(run.versions) if run.versions.is_file() else {}
    for twin in sorted(path.parent for path in run.path.glob("twins/*/journal.jsonl")):
        shown.twins.append(read_run(twin, with_data=False))
    if run.metrics.is_file() and run.predictions.is_file():
        shown.metrics, shown.table = read_json(run.metrics), pq.read_table(run.predictions)
        if with_data:
            _add_molecules(shown)
    return shown


def _add_molecules(shown: ShownRun) -> None:
    """Read what the shard set says of the test molecules."""
    assert shown.table is not None
    if not has_data(shown.recipe):
        shown.notes.append(
            f"The shard set {shown.recipe.data.shards} is not here: errors by size and group, text "
            "coverage and drawings are left out."
        )
        return
    assert shown.recipe.data.shards is not None
    shards = ShardSet.open(shown.recipe.data.shards, verify=False)
    ids: Any = shown.table["id"].combine_chunks()
    places = pc.index_in(ids, value_set=pa.array(shards.ids(), ids.type))
    if places.null_count:
        shown.notes.append(
            f"The shard set {shards.path} lacks {places.null_count} of the test molecules: it is another "
            "one, and what it says of them is left out."
        )
        return
    rows = np.asarray(places.to_numpy(zero_copy_only=False), np.int64)
    fields = list(shown.recipe.text.fields) if shown.recipe.model.reads_text else []
    shown.kinds = kinds_of(shards, rows, fields)
    if shown.kinds.note:
        shown.notes.append(shown.kinds.note)
    shown.smiles = shards.column("smiles").combine_chunks().take(pa.array(rows)).to_pylist()
