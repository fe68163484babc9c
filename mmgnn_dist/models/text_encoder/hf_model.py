"""Hugging Face encoders: loading from safetensors, and access to their layers.

The layers are the blocks of the largest `ModuleList` of the architecture, whatever its name. Depth counts
from the bottom: 0 for the embeddings, 1 to L for the layers, and L for the modules after the last layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.zero3 import count

# names of query and value projections in the common architectures; some have one projection for all
LORA_TARGETS = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("query_proj", "value_proj"),
    ("q", "v"),
    ("Wqkv",),
    ("in_proj",),
    ("query_key_value",),
    ("qkv_proj",),
)

PROJECTION = "text_projection.weight"


def load_encoder(files: EncoderFiles, dtype: torch.dtype = torch.float32) -> Any:
    """Load an encoder from safetensors; of a larger model, load only the text encoder.

    A pooler is removed: its output is not used, so its weights would have no gradient. A decoder keeps no
    cache of keys and values, since a text is read once.

    Args:
        files: files of the encoder.
        dtype: type of the weights.

    Raises:
        UserError: if the folder holds no model that transformers can read, or if weights are missing.
    """
    from safetensors import SafetensorError
    from transformers import PreTrainedModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    family = _family(files)
    try:
        make = _stored if files.random is None else _random
        model = make(family, files, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise UserError(
            f"no text encoder can be read from {files.folder}: {str(error).splitlines()[0]}"
        ) from None
    # the text model of CLIP; T5 and BART without their decoder; Gemma 3 without its eyes
    for part in ("text_model", "encoder", "language_model"):
        if isinstance(getattr(model, part, None), PreTrainedModel):
            model = getattr(model, part)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    if getattr(model.config, "use_cache", None):
        model.config.use_cache = False
    return model


def _stored(family: Any, files: EncoderFiles, dtype: torch.dtype) -> Any:
    """Load the model with the weights of its folder."""
    model, loading_info = family.from_pretrained(
        files.folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=dtype,
        output_loading_info=True,
    )
    unread = (
        "pooler.",
        "decoder.",
        "vision_model.",
        "vision_tower.",
        "logit_scale",
        "projection.",
        "projector.",
    )
    missing = [name for name in loading_info["missing_keys"] if not any(part in name for part in unread)]
    if missing:
        raise UserError(
            f"{files.folder} lacks {len(missing)} weights of its {type(model).__name__}, "
            f"{min(missing)} for one: give a folder with all of them"
        )
    return model


def load_projection(files: EncoderFiles) -> nn.Linear:
    """Load the map from a pooled vector to the space that text shares with pictures, [P, D] without bias.

    CLIP (Radford et al. 2021, arXiv 2103.00020) multiplies the state of the last token by `text_projection`.

    Raises:
        UserError: if the encoder has random weights, or stores no such map.
    """
    from safetensors import safe_open

    for path in sorted(files.folder.glob("*.safetensors")) if files.random is None else []:
        with safe_open(path, framework="pt") as stored:
            if PROJECTION in stored.keys():  # noqa: SIM118  safe_open is no mapping
                weight = stored.get_tensor(PROJECTION).float()
                layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
                layer.weight.data.copy_(weight)
                return layer
    raise UserError(
        f"text.projection=true: {files.name} stores no {PROJECTION}: leave text.projection out, or take an "
        "encoder with a projection, such as openai/clip-vit-large-patch14"
    )


def text_skeleton(files: EncoderFiles) -> Any:
    """Build an encoder without weights, on the device `meta`."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(files.folder, local_files_only=True, **(files.random or {}))
    with torch.device("meta"):
        return _family(files).from_config(config, trust_remote_code=False)


def _family(files: EncoderFiles) -> Any:
    """The auto class that builds an encoder: one for text encoders if transformers has it for this model."""
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    encodes = files.config.get("model_type") in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
    return AutoModelForTextEncoding if encodes else AutoModel


def _random(family: Any, files: EncoderFiles, dtype: torch.dtype) -> Any:
    """Build the model with random weights, drawn by its architecture from torch's random state."""
    from transformers import AutoConfig

    assert files.random is not None
    config = AutoConfig.from_pretrained(files.folder, local_files_only=True, **files.random)
    return family.from_config(config, trust_remote_code=False, dtype=dtype)


def lora_targets(model: nn.Module) -> list[str]:
    """Names of the linear layers that get LoRA adapters.

    Raises:
        UserError: if the architecture has no layers with known names.
    """
    names = {
        name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    for pair in LORA_TARGETS:
        if names.issuperset(pair):
            return list(pair)
    raise UserError(
        f"text.mode=lora finds no query and value layers in {type(model).__name__} "
        f"(its linear layers: {', '.join(sorted(names))}): use text.mode=full or frozen"
    )


def layers_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The chain of layers of an encoder and its name.

    Raises:
        UserError: if the architecture has no chain of layers.
    """
    chains = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    if not chains:
        raise UserError(
            f"{type(model).__name__} has no chain of layers: remove text.layer_decay, text.unfreeze and "
            "text.checkpointing"
        )
    return max(chains, key=lambda chain: sum(map(count, chain[1].parameters())))


def depths(model: nn.Module) -> dict[str, int]:
    """Depth of each parameter by name; the largest depth is the number of layers L."""
    chain, layers = layers_of(model)
    tables = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    result, behind = {}, False
    for name, _ in model.named_parameters():
        if name.startswith(f"{chain}."):
            behind = True
            result[name] = int(name.removeprefix(f"{chain}.").split(".", 1)[0]) + 1
        else:
            result[name] = len(layers) if behind and name not in tables and "embed" not in name else 0
    return result


def checkpoint_layers(model: nn.Module) -> None:
    """Turn on activation checkpointing of the layers.

    Only the inputs of the layers are kept; the backward pass computes the layers again. Dropout draws
    its random numbers again from the same state, so the gradients are the same.
    """
    for layer in layers_of(model)[1]:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
