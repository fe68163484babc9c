"""Application of an exported model to the molecules of some inputs, by one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.fusions.base import TextSide
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.checkpoint.export import load_export
from mmgnn_dist.train.evaluate import Predictions, no_predictions, predict
from mmgnn_dist.train.inputs import Inputs
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.text_data import TextData, open_text_data


class ExportedModel:
    """The exported model of a run, loaded when it first predicts, for the molecules of many inputs.

    Args:
        folder: run directory, or a folder made by `mmgnn export`.
        threads: CPU threads, as `train.threads`.
        progress: progress on the terminal.
    """

    def __init__(self, folder: Path, threads: int, progress: Progress) -> None:
        self.run = RunDir(folder)
        self.ranks = init_distributed(threads)
        self._progress = progress
        self._loaded: tuple[FusedModel, Scaler] | None = None
        self._text: tuple[ShardSet, TextData] | None = None

    def text(self, inputs: Inputs) -> TextData:
        """Return tokens and vectors of the molecules; they are opened once for a shard set.

        Raises:
            UserError: the encoder cannot read them.
        """
        if self._text is None or self._text[0] is not inputs.shards:
            self._text = inputs.shards, open_text_data(inputs, self.ranks, self._progress)
        return self._text[1]

    def model(self, inputs: Inputs) -> tuple[FusedModel, Scaler]:
        """Return the model, on its device.

        Raises:
            UserError: the export is missing or altered, or the language model has changed.
        """
        if self._loaded is None:
            refuse_other_classes(read_json(self.run.export_about), inputs)
            source = self.text(inputs).source
            model, scaler, _ = load_export(self.run, inputs.recipe, inputs.forms, source)
            self._loaded = model.to(self.ranks.device), scaler.to(self.ranks.device)
        return self._loaded

    def predict(self, inputs: Inputs, vectors: bool = False) -> Predictions:
        """Predict the test part of some inputs; keep `vectors` if asked.

        Raises:
            UserError: as of `text` and `model`.
        """
        model, scaler = self.model(inputs)
        text = self.text(inputs)
        loader: Loader = inputs.ordered("test", text.tokens, self.ranks)
        if not len(loader.rows):
            return no_predictions(loader, has_gate(model))
        predictions = predict(model, loader, scaler, self.ranks, text.embeddings, vectors)
        assert predictions is not None  # there is one rank
        return predictions

    def too_long(self, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
        """Which molecules have a text of more tokens than the encoder has positions, bool [R]."""
        tokens = self.text(inputs).tokens
        if tokens is None or tokens.max_positions is None or tokens.longest <= tokens.max_positions:
            return np.zeros(len(rows), bool)
        return np.asarray(tokens.lengths()[rows] > tokens.max_positions)


@torch.no_grad()
def has_gate(model: FusedModel) -> bool:
    """Whether a model gives a gate with its predictions: its fusion is tried on one atom and one token."""
    if model.backbone is None or model.project is None:
        return False
    device = next(model.parameters()).device
    one = torch.tensor([0, 1], device=device)
    graph = Graph.make(one[1:], torch.zeros(1, 3, device=device), one)
    vector = torch.zeros(1, model.fusion.text_width, device=device)
    atoms = torch.zeros(1, model.backbone.width, device=device)
    return model.fusion(atoms, TextSide(vector, vector, one), graph)[1] is not None


def apply_export(folder: Path, inputs: Inputs, progress: Progress, vectors: bool = False) -> Predictions:
    """Predict the test part of some inputs with the exported model of a run; keep `vectors` if asked.

    Raises:
        UserError: the export is missing or altered, or the language model has changed.
    """
    return ExportedModel(folder, inputs.recipe.train.threads, progress).predict(inputs, vectors)


def refuse_other_classes(about: ExportRecord, inputs: Inputs) -> None:
    """Refuse molecules whose classes are not those of the model.

    Raises:
        UserError: a target has other classes in the shard set than in training.
    """
    for name, classes in about.get("classes", {}).items():
        found = inputs.shards.classes.get(name)
        if found != classes:
            raise UserError(
                f"target {name} of {inputs.shards.path} has the classes {', '.join(found or ['none'])}, and "
                f"the model was trained on {', '.join(classes)}: prepare a set that has all of these"
            )
