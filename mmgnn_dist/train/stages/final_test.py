"""The stage after training: apply the exported model to the test part."""

from __future__ import annotations

from dataclasses import dataclass

from mmgnn_dist.models.zero3 import gathered, is_sharded
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.checkpoint.export import fingerprint, load_export
from mmgnn_dist.train.evaluate import Predictions, predict
from mmgnn_dist.train.stages.build import Built
from mmgnn_dist.train.stages.setting import Setting


@dataclass(frozen=True)
class Tested:
    """Result of `test` on the first rank.

    Attributes:
        predictions: predictions for the test part.
        about: description of the export.
        weights: fingerprint of the final weights.
        averaged_weights: fingerprint of the averaged weights.
    """

    predictions: Predictions
    about: ExportRecord
    weights: str
    averaged_weights: str


def test(setting: Setting, built: Built) -> Tested | None:
    """Apply the exported model to the test part; return the result on the first rank, else None.

    Raises:
        UserError: the export cannot be read.
    """
    inputs, ranks, text = setting.inputs, setting.ranks, built.text
    weights, averaged_weights = _fingerprints(built, ranks.is_rank0)
    into = built.model if is_sharded(built.model) else None
    best, scaler, about = load_export(setting.run, inputs.recipe, inputs.forms, text.source, into=into)
    predictions = predict(
        best.to(ranks.device),
        inputs.ordered("test", text.tokens, ranks),
        scaler.to(ranks.device),
        ranks,
        text.embeddings,
        inputs.recipe.train.save_vectors,
    )
    if predictions is None:
        return None
    return Tested(predictions, about, weights=weights, averaged_weights=averaged_weights)


def _fingerprints(built: Built, is_rank0: bool) -> tuple[str, str]:
    """Return the fingerprints of the final and of the averaged weights; every rank takes part."""
    last = ((n, p) for n, p in sorted(built.model.named_parameters()) if p.requires_grad)
    weights = fingerprint(gathered(last))
    return weights, fingerprint(sorted(built.average.whole(is_rank0).items()))
