"""Predictions for one portion of the molecules: the table of its rows, and what is counted of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from mmgnn_dist.chem.checks import TOO_LONG
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord, QuarantineRow
from mmgnn_dist.predict.domain import flags
from mmgnn_dist.predict.portions import Portion, Portions, aside_row, clear
from mmgnn_dist.predict.rows import InputRows
from mmgnn_dist.predict.table import PredictionFacts, prediction_table
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.application.apply import ExportedModel
from mmgnn_dist.train.application.trained_on import trained_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from mmgnn_dist.predict.portions import Tables


class PortionRecord(TypedDict):
    """What is counted of a portion.

    Attributes:
        rows: rows of the portion.
        reasons: number of molecules set aside, by reason.
        trained_on: molecules that the model was trained on; None if its export does not say.
        record: what the preparation found, without its lists of molecules; None for those of a shard set.
        aside: the molecules that were set aside.
    """

    rows: int
    reasons: dict[str, int]
    trained_on: int | None
    record: ChunkRecord | None
    aside: list[QuarantineRow]


@dataclass(frozen=True)
class PredictedPortion:
    """Predictions for a portion.

    Attributes:
        table: one row for each row (see `prediction_table`).
        rows: what became of each row.
        vectors: float32 [R, H] by name, of the molecules that were kept.
        record: what is counted.
        raw: the raw records of the rows; None where the source has none.
    """

    table: pa.Table
    rows: InputRows
    vectors: dict[str, np.ndarray]
    record: PortionRecord
    raw: Sequence[bytes] | None


class Predictor:
    """A trained model that predicts portions.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        export: description of the model.
        portions: the molecules.
        level: share of molecules that the intervals cover.
        threads: CPU threads, as `train.threads`.
    """

    def __init__(
        self, run: Path, export: ExportRecord, portions: Portions, level: float, threads: int
    ) -> None:
        self._run, self._export, self._portions = RunDir(run), export, portions
        self._facts = PredictionFacts(export["units"], [], export.get("calibration", {}), level)
        self._model = ExportedModel(run, threads, Progress("portion", quiet=True))

    def predict(self, number: int, tables: Tables, folder: Path, vectors: bool = False) -> PredictedPortion:
        """Predict a portion.

        Args:
            number: number of the portion.
            tables: its rows, as the reader of the portions gives them.
            folder: folder for its files; what is in it is removed.
            vectors: also keep the vectors of the molecules.

        Raises:
            UserError: the model or a source cannot be read.
        """
        clear(folder)
        portion = self._readable(number, self._portions.open(number, tables, folder))
        predictions = self._model.predict(portion.inputs, vectors)
        rows = InputRows.of(
            portion.rows,
            portion.view.ids(portion.local).tolist() if len(portion.local) else [],
            portion.aside,
        )
        if len(portion.local):
            known = trained_on(self._run, portion.view, portion.local)
            about = self._export.get("learned_from")
            told = flags(replace(portion.inputs, shards=portion.view), portion.local, known, about)
        else:
            known, told = None, []
        table = prediction_table(rows, predictions, replace(self._facts, flags=told))
        record: PortionRecord = {
            "rows": portion.rows,
            "reasons": dict(Counter(entry["reason"] for entry in portion.aside)),
            "trained_on": self._count(known),
            "record": _without_molecules(portion.record),
            "aside": portion.aside,
        }
        return PredictedPortion(table, rows, predictions.vectors, record, portion.raw)

    def _count(self, known: np.ndarray | None) -> int | None:
        if known is None:
            return 0 if self._run.export_trained_on.is_file() else None
        return int(known.sum())

    def _readable(self, number: int, portion: Portion) -> Portion:
        """Set aside molecules whose text is longer than the encoder reads."""
        if not len(portion.local):
            return portion
        rows = portion.inputs.split["test"]
        long = self._model.too_long(portion.inputs, rows)
        if not long.any():
            return portion
        kept = np.setdiff1d(np.arange(portion.rows), [entry["at"] for entry in portion.aside])
        names = portion.view.ids(portion.local[long]).tolist()
        new = [
            aside_row(self._portions, number, at, name, TOO_LONG, "lower text.field_tokens")
            for at, name in zip(kept[long].tolist(), names, strict=True)
        ]
        aside = sorted([*portion.aside, *new], key=lambda entry: entry["at"])
        inputs = replace(portion.inputs, split={"test": rows[~long]})
        return replace(portion, inputs=inputs, local=portion.local[~long], aside=aside)


def _without_molecules(record: ChunkRecord | None) -> ChunkRecord | None:
    if record is None:
        return None
    return {**record, "quarantine": [], "notes": [], "assumed": [], "origins": []}
