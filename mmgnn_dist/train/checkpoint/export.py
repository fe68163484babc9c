"""The export of a run: weights in safetensors and what is needed to read them, without DeepSpeed.

    export/model.safetensors   averaged weights of the best validation, with the scaler
    export/model.json          step and score, targets with their units, the backbone (as wide as
                               `width_matched` made it), the encoder that frozen weights come from, and
                               what it has learned from: elements, providers and coverage of text

Frozen weights of the language model are named (encoder, revision, checksum), not copied.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from mmgnn_dist.config import ModelConfig, Recipe
from mmgnn_dist.data.shardset.references import elements, with_other_elements
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json, sha256, write_json
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.models.zero3 import gathered, local_shard, repartition, shard_of
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import EncoderIdentity, ExportRecord, LearnedFrom
from mmgnn_dist.train.checkpoint.host_copies import save_safetensors

OLD_EXPORT = "the model was exported by an older version: it does not say on which elements it was trained"


def _frozen(model: FusedModel) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def export_model(
    run: RunDir, model: FusedModel, scaler: Scaler, about: ExportRecord, first: bool = True
) -> None:
    """Write weights (as the model has them now) and scaler; `about` says what they are.

    Every rank calls it, the `first` writes. What the ranks share out is gathered in its host memory.
    """
    tensors = {}
    for name, value in gathered((n, p) for n, p in model.named_parameters() if p.requires_grad):
        if first:
            tensors[f"model.{name}"] = value.cpu().clone(memory_format=torch.contiguous_format)
    if not first:
        return
    kept = {name for name, _ in model.named_parameters()}
    tensors |= {f"model.{n}": v.cpu().contiguous() for n, v in model.state_dict().items() if n not in kept}
    tensors |= {f"scaler.{name}": value.cpu().contiguous() for name, value in vars(scaler).items()}
    with atomic_path(run.export_weights) as part:
        save_safetensors(tensors, part)
    write_json(run.export_about, {**about, "sha256": sha256(run.export_weights)})


def learned_from(shards: ShardSet, rows: np.ndarray) -> LearnedFrom:
    """What a model knows of molecules: elements of the training part; who gave text, to which share of them.

    Args:
        shards: the shard set.
        rows: global rows of the training part.
    """
    manifest = shards.manifest
    return {
        "elements": elements(shards, rows),
        "providers": manifest.get("prepare", {}).get("providers"),
        "coverage": {name: count / shards.rows for name, count in manifest.get("coverage", {}).items()},
    }


def unseen_elements(about: ExportRecord, shards: ShardSet, rows: np.ndarray) -> str | None:
    """A line on the molecules that have elements on which a model was not trained, None where there is none.

    Args:
        about: of the export.
        shards: the shard set.
        rows: global rows that it is tested on.
    """
    if "learned_from" not in about:
        return OLD_EXPORT
    known = about["learned_from"]["elements"]
    other = rows[with_other_elements(shards, rows, known)]
    if not len(other):
        return None
    symbols = [symbol for symbol in elements(shards, other) if symbol not in known]
    return (
        f"{len(other)} of {len(rows)} molecules have {', '.join(symbols)}, which the training part has not: "
        "errors on them are those of weights that were never trained"
    )


def encoder_identity(files: EncoderFiles | None) -> EncoderIdentity | None:
    """What names an encoder's weights."""
    if files is None:
        return None
    return {"name": files.name, "revision": files.revision, "fingerprint": files.model_fingerprint}


def load_export(
    run: RunDir, recipe: Recipe, forms: list[str], text: TextSource | None, into: FusedModel | None = None
) -> tuple[FusedModel, Scaler, ExportRecord]:
    """Rebuild the model of an export, computing in float32.

    Args:
        run: directory of the run, or what `mmgnn export` made of it.
        recipe: as `FusedModel` takes them.
        forms: as `FusedModel` takes them.
        text: as `FusedModel` takes them.
        into: a model of this recipe that takes the weights, part by part if its ranks share it out; none: a
            new one.

    Raises:
        UserError: if the export is missing, altered, or its language model is another one now.
    """
    from safetensors.torch import load_file

    if not (run.export_about).is_file():
        raise UserError(f"no trained model at {run.export}: train the run first with 'mmgnn train'")
    about: ExportRecord = read_json(run.export_about)
    if sha256(run.export_weights) != about["sha256"]:
        raise UserError(f"{run.export_weights} is truncated or altered: train the run again")
    if about["encoder"] != encoder_identity(text.files if text else None):
        raise UserError(
            f"{run.export} was trained with the encoder {about['encoder']}, which is another one here"
        )
    tensors = load_file(run.export_weights)
    scaler = Scaler(
        **{key.removeprefix("scaler."): v for key, v in tensors.items() if key.startswith("scaler.")}
    )
    built = ModelConfig.model_validate({**recipe.model.model_dump(), "backbone": about["backbone"]})
    model = into or FusedModel(recipe.model_copy(update={"model": built}), forms, text)
    if model.encoder is not None:
        model.encoder.autocast = None
    weights = {key.removeprefix("model."): v for key, v in tensors.items() if key.startswith("model.")}
    if set(weights) != set(model.state_dict()) - _frozen(model):
        raise UserError(f"{run.export} does not fit its recipe: train the run again")
    put_weights(model, weights)
    return model.eval(), scaler, about


@torch.no_grad()
def put_weights(model: FusedModel, weights: dict[str, torch.Tensor]) -> None:
    """Let a model, shared out among ranks or not, have whole weights and buffers by name."""
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    for name, value in weights.items():
        if name in parameters:
            local_shard(parameters[name]).copy_(shard_of(parameters[name], value))
        else:
            buffers[name].copy_(value)
    repartition(parameters.values())


def fingerprint(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """SHA-256 over names and values, which come by ascending name: equal for equal weights, bit for bit."""
    import hashlib

    digest = hashlib.sha256()
    for name, value in tensors:
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
