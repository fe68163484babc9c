"""Application of an exported model to the molecules of some inputs, by one process."""

from __future__ import annotations

from pathlib import Path

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.checkpoint.export import load_export
from mmgnn_dist.train.evaluate import Predictions, predict
from mmgnn_dist.train.inputs import Inputs
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.text_data import open_text_data


def apply_export(folder: Path, inputs: Inputs, progress: Progress, vectors: bool = False) -> Predictions:
    """Predict the test part of some inputs with the exported model of a run; keep `vectors` if asked.

    Raises:
        UserError: the export is missing or altered, or the language model has changed.
    """
    ranks = init_distributed(inputs.recipe.train.threads)
    text = open_text_data(inputs, ranks, progress)
    refuse_other_classes(read_json(RunDir(folder).export_about), inputs)
    model, scaler, _ = load_export(RunDir(folder), inputs.recipe, inputs.forms, text.source)
    loader = inputs.ordered("test", text.tokens, ranks)
    predictions = predict(
        model.to(ranks.device), loader, scaler.to(ranks.device), ranks, text.embeddings, vectors
    )
    assert predictions is not None  # there is one rank
    return predictions


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
