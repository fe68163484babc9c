"""The table of predictions: one row for each row of the sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mmgnn_dist.predict.rows import InputRows
from mmgnn_dist.run_records import Calibration
from mmgnn_dist.train.application.conformal import COVERED, class_sets, radius_of
from mmgnn_dist.train.evaluate import Predictions


@dataclass(frozen=True)
class PredictionFacts:
    """What is known of predictions beside their values.

    Attributes:
        units: unit of each target; "" for classes.
        flags: words on each molecule that was kept, in their order (see `domain.flags`).
        calibration: radii of the intervals by target; empty for a model of an earlier version.
        level: share of molecules that an interval covers.
    """

    units: dict[str, str]
    flags: Sequence[Sequence[str]]
    calibration: dict[str, Calibration] = field(default_factory=dict)
    level: float = COVERED


def prediction_table(rows: InputRows, predictions: Predictions, facts: PredictionFacts) -> pa.Table:
    """Make the table of predictions.

    It has one row for each row of the sources: `id`; for each target its value, and `<target>_low` and
    `<target>_high` where the model has intervals; for a class its name, `<target>_p_<class>` and the classes
    of the interval, `<target>_set`; `gate` if there is one; `flags` on molecules unlike those of the
    training; `reason`. Where the reason is not null, the other values are. The field of a target has its
    `unit`, and the schema `mmgnn.units` and `mmgnn.level`, in its metadata.

    Args:
        rows: what became of each row of the sources [n].
        predictions: predictions of the molecules that were kept, sorted by row.
        facts: what is known of them beside their values.
    """
    kept = pa.array(rows.kept, mask=rows.kept < 0)
    columns: dict[str, pa.Array] = {"id": pa.array(rows.ids)}
    for place, name in enumerate(facts.units):
        radius = radius_of(facts.calibration, name, facts.level)
        of_target = _number if place not in predictions.probabilities else _class
        for column, values in of_target(name, place, predictions, radius).items():
            columns[column] = values.take(kept)
    if predictions.gate is not None:
        columns["gate"] = pa.array(predictions.gate.astype(np.float32)).take(kept)
    columns["flags"] = pa.array(["; ".join(words) or None for words in facts.flags], pa.string()).take(kept)
    columns["reason"] = pa.array([reason or None for reason in rows.reasons], pa.string())
    fields = [
        pa.field(name, values.type, metadata={"unit": facts.units[name]} if name in facts.units else None)
        for name, values in columns.items()
    ]
    about = {"mmgnn.units": json.dumps(facts.units), "mmgnn.level": str(facts.level)}
    return pa.table(list(columns.values()), pa.schema(fields, about))


def _number(name: str, place: int, predictions: Predictions, radius: float) -> dict[str, pa.Array]:
    values = predictions.predicted[:, place]
    columns = {name: pa.array(values)}
    if not np.isnan(radius):
        columns |= {f"{name}_low": pa.array(values - radius), f"{name}_high": pa.array(values + radius)}
    return columns


def _class(name: str, place: int, predictions: Predictions, radius: float) -> dict[str, pa.Array]:
    labels, probabilities = predictions.heads.classes[place], predictions.probabilities[place]
    columns = {name: pa.array([labels[int(k)] for k in predictions.predicted[:, place]])}
    for k, label in enumerate(labels):
        columns[f"{name}_p_{label}"] = pa.array(probabilities[:, k])
    if not np.isnan(radius):
        chosen = class_sets(probabilities, radius)
        sets = ["|".join(label for label, has in zip(labels, row, strict=True) if has) for row in chosen]
        columns[f"{name}_set"] = pa.array(sets)
    return columns
