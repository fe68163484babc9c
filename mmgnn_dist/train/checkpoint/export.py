"""The export of a run: weights in safetensors and their description, readable without DeepSpeed.

    export/model.safetensors   averaged weights of the best validation, with the scaler
    export/model.json          step and score, targets with their units, the backbone (with the width of
                               `width_matched`), the encoder of the frozen weights, and the training data:
                               elements, charges, multiplicities, providers and coverage of text

Frozen weights of the language model are named (encoder, revision, checksum), not copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from mmgnn_dist.chem.states.electronic_state import TrainedStates
from mmgnn_dist.config import ModelConfig, Recipe
from mmgnn_dist.data.shardset.groups import sizes
from mmgnn_dist.data.shardset.references import elements, row_states, trained_states, with_other_elements
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.data.text.sentences import own_sentences
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json, sha256, write_json
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.models.zero3 import gathered, local_shard, repartition, shard_of
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import (
    EncoderIdentity,
    ExportedClasses,
    ExportRecord,
    LearnedFrom,
    same_encoder,
)
from mmgnn_dist.train.checkpoint.host_copies import save_safetensors

OLD_EXPORT = "the model was exported by an older version: it does not say on which elements it was trained"


def _frozen(model: FusedModel) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def export_model(
    run: RunDir, model: FusedModel, scaler: Scaler, about: ExportRecord, first: bool = True
) -> None:
    """Write the current weights of a model and the scaler, with `about` as their description.

    All ranks call this function, and the `first` one writes; it gathers sharded weights in its host memory.
    """
    tensors = {}
    for name, value in gathered((n, p) for n, p in model.named_parameters() if p.requires_grad):
        if first:
            tensors[f"model.{name}"] = value.cpu().clone(memory_format=torch.contiguous_format)
    if not first:
        return
    parameter_names = {name for name, _ in model.named_parameters()}
    tensors |= {
        f"model.{n}": v.cpu().contiguous() for n, v in model.state_dict().items() if n not in parameter_names
    }
    tensors |= {f"scaler.{name}": value.cpu().contiguous() for name, value in vars(scaler).items()}
    with atomic_path(run.export_weights) as part:
        save_safetensors(tensors, part)
    write_json(run.export_about, {**about, "sha256": sha256(run.export_weights)})


def learned_from(shards: ShardSet, rows: np.ndarray) -> LearnedFrom:
    """Describe the training data of a model: elements, sizes, states, text providers, coverage of fields.

    Args:
        shards: the shard set.
        rows: global rows of the training part.
    """
    manifest, seen, atoms = shards.manifest, trained_states(shards, rows), sizes(shards)[rows]
    learned: LearnedFrom = {
        "elements": elements(shards, rows),
        "providers": manifest.get("prepare", {}).get("providers"),
        "coverage": {name: count / shards.rows for name, count in manifest.get("coverage", {}).items()},
        "charges": list(seen.charges),
        "multiplicities": list(seen.multiplicities),
        "atoms": [int(atoms.min()), int(atoms.max())],
    }
    if shards.text_columns:
        learned["text_columns"] = shards.text_columns
    if check := manifest.get("prepare", {}).get("check_names"):
        learned["check_names"] = check
    if "selection" in manifest:
        learned["selected_fields"] = manifest["selection"]["molecules"] > 0
    return learned


def in_trained_words(recipe: Recipe, about: ExportRecord) -> Recipe:
    """Return the recipe of a trained model with the sentences of its own text fields, for any other set.

    The label of an own field is the name of its column, which is another one in another file.

    Args:
        recipe: the recipe of the model.
        about: description of its export.
    """
    own = about.get("learned_from", {}).get("text_columns", {})
    if not own:
        return recipe
    text = recipe.text.model_copy(update={"template": own_sentences(own) | recipe.text.template})
    return recipe.model_copy(update={"text": text})


def exported_classes(shards: ShardSet, targets: Sequence[str]) -> ExportedClasses:
    """The entry of an export on the classes of its targets; empty without any."""
    classes = {name: names for name, names in shards.classes.items() if name in targets}
    return {"classes": classes} if classes else {}


def states_of(about: ExportRecord) -> TrainedStates | None:
    """Return the charges and multiplicities on which a model was trained; None if its export is older."""
    learned = about.get("learned_from")
    if learned is None or "charges" not in learned or "multiplicities" not in learned:
        return None
    return TrainedStates(tuple(learned["charges"]), tuple(learned["multiplicities"]))


def unseen(about: ExportRecord, shards: ShardSet, rows: np.ndarray) -> list[str]:
    """Return warnings on molecules with elements, charges or multiplicities not trained on.

    Args:
        about: description of the export.
        shards: the shard set.
        rows: global rows of the tested molecules.
    """
    warnings = (_unseen_elements(about, shards, rows), _unseen_states(about, shards, rows))
    return [warning for warning in warnings if warning]


def _unseen_states(about: ExportRecord, shards: ShardSet, rows: np.ndarray) -> str | None:
    trained = states_of(about) or TrainedStates((0,), (1,))
    charges, multiplicities = row_states(shards, rows)
    other = ~trained.has(charges, multiplicities)
    if not other.any():
        return None
    kinds = sorted(set(zip(charges[other].tolist(), multiplicities[other].tolist(), strict=True)))
    listed = ", ".join(f"charge {charge} with multiplicity {number}" for charge, number in kinds)
    return (
        f"{other.sum()} of {len(rows)} molecules have {listed}, which the training part has not: errors on "
        "them are those of weights that were never trained"
    )


def _unseen_elements(about: ExportRecord, shards: ShardSet, rows: np.ndarray) -> str | None:
    if "learned_from" not in about:
        return OLD_EXPORT
    trained_elements = about["learned_from"]["elements"]
    other = rows[with_other_elements(shards, rows, trained_elements)]
    if not len(other):
        return None
    symbols = [symbol for symbol in elements(shards, other) if symbol not in trained_elements]
    return (
        f"{len(other)} of {len(rows)} molecules have {', '.join(symbols)}, which the training part has not: "
        "errors on them are those of weights that were never trained"
    )


def encoder_identity(files: EncoderFiles | None) -> EncoderIdentity | None:
    """Return name, revision and fingerprint that identify an encoder's weights."""
    if files is None:
        return None
    return {"name": files.name, "revision": files.revision, "fingerprint": files.model_fingerprint}


def read_export(run: RunDir) -> ExportRecord:
    """Read the description of an export.

    Raises:
        UserError: there is none.
    """
    if not run.export_about.is_file():
        raise UserError(f"no trained model at {run.export}: train the run first with 'mmgnn train'")
    about: ExportRecord = read_json(run.export_about)
    return about


def load_export(
    run: RunDir, recipe: Recipe, forms: list[str], text: TextSource | None, into: FusedModel | None = None
) -> tuple[FusedModel, Scaler, ExportRecord]:
    """Rebuild the model of an export; it computes in float32.

    Args:
        run: directory of the run, or the folder made by `mmgnn export`.
        recipe: as in `FusedModel`.
        forms: as in `FusedModel`.
        text: as in `FusedModel`.
        into: a model of this recipe, sharded or not, to load the weights into; None makes a new one.

    Raises:
        UserError: the export is missing or altered, or the language model has changed.
    """
    from safetensors.torch import load_file

    about = read_export(run)
    if sha256(run.export_weights) != about["sha256"]:
        raise UserError(f"{run.export_weights} is truncated or altered: train the run again")
    if not same_encoder(about["encoder"], encoder_identity(text.files if text else None)):
        raise UserError(
            f"{run.export} was trained with the encoder {about['encoder']}, and this run has another one"
        )
    tensors = load_file(run.export_weights)
    scaler = Scaler(
        **{key.removeprefix("scaler."): v for key, v in tensors.items() if key.startswith("scaler.")}
    )
    model_config = ModelConfig.model_validate({**recipe.model.model_dump(), "backbone": about["backbone"]})
    states_read = about.get("reads_states", False)
    model = into or FusedModel(
        recipe.model_copy(update={"model": model_config}), forms, text, states=states_read
    )
    if model.encoder is not None:
        model.encoder.autocast = None
    weights = {key.removeprefix("model."): v for key, v in tensors.items() if key.startswith("model.")}
    if set(weights) != set(model.state_dict()) - _frozen(model):
        raise UserError(f"{run.export} does not fit its recipe: train the run again")
    put_weights(model, weights)
    return model.eval(), scaler, about


@torch.no_grad()
def put_weights(model: FusedModel, weights: dict[str, torch.Tensor]) -> None:
    """Copy whole weights and buffers by name into a model, sharded among ranks or not."""
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    for name, value in weights.items():
        if name in parameters:
            local_shard(parameters[name]).copy_(shard_of(parameters[name], value))
        else:
            buffers[name].copy_(value)
    repartition(parameters.values())


def fingerprint(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return the SHA-256 of names and values in ascending order of names; it is equal for equal weights."""
    import hashlib

    digest = hashlib.sha256()
    for name, value in tensors:
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
