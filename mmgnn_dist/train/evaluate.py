"""Evaluation: predictions in units, and errors as sums and counts over molecules.

Every molecule counts once for any number of ranks and any batch size: errors are summed in float64 and
divided once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.files import atomic_path
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.graph import Graph, sum_molecules
from mmgnn_dist.models.heads import Heads
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.models.text_encoder.frozen_cache import Embeddings
from mmgnn_dist.run_records import GateCounts
from mmgnn_dist.train.checkpoint.host_copies import save_safetensors
from mmgnn_dist.train.metrics import MeanAbsoluteError, named_values
from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.report.class_metrics import balanced_cross_entropy, class_metrics

GATE_BINS = 20  # bins of the histogram in the journal


@dataclass
class Predictions:
    """Predictions of a model for `n` molecules, sorted by row.

    Attributes:
        rows: global rows of the shard set [n].
        true, predicted: float64 [n, T] in units; `true` is NaN without a label. Classes have their
            numbers, the predicted one being the most probable.
        gate: gate of each molecule [n], or None for a model without a gate.
        vectors: float32 [n, H] by name, if requested: `graph` (output of the backbone) and `fused` (input of
            the read-out), each the mean over the atoms of a molecule.
        heads: which targets are classes.
        probabilities: probability of each class [n, K], by place of the target.
        priors: share of each class in the training part [K], by place of the target.
    """

    rows: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    gate: np.ndarray | None
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    heads: Heads = field(default_factory=lambda: Heads(()))
    probabilities: dict[int, np.ndarray] = field(default_factory=dict)
    priors: dict[int, np.ndarray] = field(default_factory=dict)

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """True and predicted values of the targets that are numbers, each [n, T']."""
        if not self.heads.classed:  # a copy may be summed in another order
            return self.true, self.predicted
        places = self.heads.numbers
        return self.true[:, places], self.predicted[:, places]

    def mae(self) -> np.ndarray:
        """Return the mean absolute error of each number over labelled molecules [T']; NaN without labels."""
        return mean_absolute_error(*self.numbers())

    def class_loss(self, place: int) -> float:
        """Return the balanced cross entropy of a target that is a class, as a share of log K."""
        if not np.isfinite(self.true[:, place]).any():
            return np.nan
        return balanced_cross_entropy(self.true[:, place], self.probabilities[place], self.priors[place])

    def named_class_metrics(self, part: str, targets: Sequence[str]) -> dict[str, float | None]:
        """Return the metrics of the classes by name, `test/auroc/toxic`; None where they are not defined."""
        named: dict[str, float | None] = {}
        for place in self.heads.classed:
            values = class_metrics(self.true[:, place], self.probabilities[place], self.priors[place])
            for metric, value in values.items():
                named[f"{part}/{metric}/{targets[place]}"] = value if np.isfinite(value) else None
        return named

    def named_metrics(self, part: str, names: list[str], targets: Sequence[str]) -> dict[str, float | None]:
        """Return all test metrics by name: errors of numbers (`names` with units), then those of classes."""
        return named_errors(part, names, self.mae()) | self.named_class_metrics(part, targets)

    def gates(self) -> GateCounts:
        """Return the mean of the gate and its histogram over molecules, GATE_BINS bins from 0 to 1."""
        assert self.gate is not None
        counts, _ = np.histogram(self.gate, bins=GATE_BINS, range=(0, 1))
        return {"mean": float(self.gate.mean()), "counts": counts.tolist()}

    def save(self, path: Path, ids: np.ndarray, targets: list[str]) -> None:
        """Write Parquet columns `id`, `<target>_true`, `<target>_pred`, and `<target>_gate` with a gate.

        A class has its number in them, and a column `<target>_p_<class>` for the probability of each class.
        A model has one gate for all its targets, so the gate columns of one file are equal.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, np.ndarray] = {"id": ids}
        for t, name in enumerate(targets):
            columns[f"{name}_true"] = self.true[:, t]
            columns[f"{name}_pred"] = self.predicted[:, t]
            for k, label in enumerate(self.heads.classes[t]):
                columns[f"{name}_p_{label}"] = self.probabilities[t][:, k]
            if self.gate is not None:
                columns[f"{name}_gate"] = self.gate
        with atomic_path(path) as part:
            pq.write_table(pa.table(columns), part)

    def save_vectors(self, path: Path, most: int) -> None:
        """Write the vectors of at most `most` evenly spaced molecules, with their global rows as `rows`."""
        chosen = evenly_spaced(len(self.rows), most)
        columns = {"rows": self.rows, **self.vectors}
        with atomic_path(path) as part:
            save_safetensors({name: torch.from_numpy(v[chosen]) for name, v in columns.items()}, part)


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Return at most `most` evenly spaced places among `count`."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(int))


def mean_absolute_error(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mean of |predicted - true| over the labelled rows of each column: [n, T] -> [T]."""
    return MeanAbsoluteError().values(true, predicted)


def named_errors(part: str, names: list[str], mae: np.ndarray) -> dict[str, float | None]:
    """Return errors by metric name, `test/mae/homo_eV`; None where a target has no label."""
    return named_values(f"{part}/{MeanAbsoluteError.name}", names, mae)


@torch.no_grad()
def predict(
    model: FusedModel,
    loader: Loader,
    scaler: Scaler,
    ranks: Ranks,
    embeddings: Embeddings | None,
    vectors: bool = False,
) -> Predictions | None:
    """Predict all molecules of a loader that does not shuffle, and keep `vectors` if requested.

    Returns:
        All predictions on the first rank, None on the others.
    """
    model.eval()
    parts: list[tuple[np.ndarray, ...]] = []
    with _molecule_vectors(model) if vectors else nullcontext(dict[str, np.ndarray]()) as batch_vectors:
        for batch in _batches(loader, ranks):
            text = embeddings.of(batch.rows).to(ranks.device) if embeddings else None
            on_device = batch.to(ranks.device)
            scaled, gate = model(on_device, text)
            units = scaler.units(scaled, Graph.make(on_device.z, on_device.pos, on_device.ptr)).cpu().numpy()
            true = torch.where(batch.y_mask, batch.y, torch.nan).numpy()
            gates = np.full(batch.size, np.nan) if gate is None else gate.cpu().numpy()
            parts.append((batch.rows.numpy().copy(), true, units, gates, *batch_vectors.values()))
    mine = tuple(np.concatenate(column) for column in zip(*parts, strict=True)) if parts else None
    gathered = [part for part in ranks.gather(mine) if part is not None]
    if not ranks.is_rank0:
        return None
    rows, true, units, gates, *vector_columns = (
        np.concatenate(column) for column in zip(*gathered, strict=True)
    )
    rows, order = np.unique(rows, return_index=True)  # a molecule repeated to fill a step counts once
    has_gate = bool(np.isfinite(gates).all())
    named = {name: values[order] for name, values in zip(batch_vectors, vector_columns, strict=True)}
    heads = Heads.of(loader.shards, loader.targets)
    gate_of = gates[order] if has_gate else None
    if not heads.classed:
        return Predictions(rows, true[order], units[order], gate_of, named, heads)
    return _with_classes(rows, true[order], units[order], gate_of, named, heads, scaler)


def no_predictions(loader: Loader, has_gate: bool) -> Predictions:
    """Return the predictions for the molecules of a loader that has none."""
    heads, gate = Heads.of(loader.shards, loader.targets), np.zeros(0) if has_gate else None
    empty = np.zeros((0, len(heads.classes)))
    found = Predictions(np.zeros(0, np.int64), empty, empty, gate, heads=heads)
    found.probabilities = {place: np.zeros((0, len(heads.classes[place]))) for place in heads.classed}
    return found


def _with_classes(
    rows: np.ndarray,
    true: np.ndarray,
    outputs: np.ndarray,
    gate: np.ndarray | None,
    named: dict[str, np.ndarray],
    heads: Heads,
    scaler: Scaler,
) -> Predictions:
    """Turn outputs [n, O] into values of the targets: numbers as they are, logits into probabilities."""
    predicted = np.empty((len(rows), len(heads.classes)))
    predicted[:, heads.numbers] = outputs[:, heads.number_outputs]
    found = Predictions(rows, true, predicted, gate, named, heads)
    for place in heads.classed:
        own = heads.outputs(place)
        logits = torch.from_numpy(outputs[:, own])
        found.probabilities[place] = torch.softmax(logits, dim=1).numpy()
        found.priors[place] = torch.softmax(scaler.mean[own].cpu(), dim=0).numpy()
        predicted[:, place] = found.probabilities[place].argmax(axis=1)
    return found


def _batches(loader: Loader, ranks: Ranks) -> Iterator[Batch]:
    """Yield this rank's batches; every rank beats once a step, even without a molecule in the last step."""
    for step in loader.epoch(0):
        ranks.beat(f"evaluating batch {step.index}")
        yield from step.micro


@contextmanager
def _molecule_vectors(model: FusedModel) -> Iterator[dict[str, np.ndarray]]:
    """Yield a dictionary; each pass of the model inside the block puts the vectors of its molecules there."""
    batch_vectors: dict[str, np.ndarray] = {}

    def mean(atoms: torch.Tensor, graph: Graph) -> np.ndarray:
        """Average over the atoms of each molecule, [N, H] -> [B, H]; a pooled fusion has done so already."""
        if not model.fusion.pooled:
            atoms = sum_molecules(atoms, graph) / (graph.ptr[1:] - graph.ptr[:-1]).unsqueeze(-1)
        return atoms.float().cpu().numpy()

    def collect(module: torch.nn.Module, inputs: tuple[Any, ...], outputs: tuple[torch.Tensor, Any]) -> None:
        atoms, _, graph = inputs
        batch_vectors.update(graph=mean(atoms, graph), fused=mean(outputs[0], graph))

    hook = model.fusion.register_forward_hook(collect)
    try:
        yield batch_vectors
    finally:
        hook.remove()
