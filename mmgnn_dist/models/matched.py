"""`width_matched`: the graph-only model, widened to as many trainable parameters as graph and text.

It is a control: a gain of text over it cannot come from model size. Only trainable parameters count:
backbone, fusion, read-out and the projection of the text (as in the table of the paper), the adapters in
mode `lora`, the whole language model in mode `full`, and no language model in mode `frozen`. With `full` the
control is therefore as large as graph model and language model together: much wider and slower than the other
models of the recipe. With `lora` and `frozen` it has an ordinary size.

All `widths` of the backbone section grow by one factor (hidden, filters and so on); layers, cutoff and basis
functions stay. Fusion and read-out follow the width of the atom vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from mmgnn_dist.config import Backbone, Recipe
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.zero3 import count

TOLERANCE = 0.02  # largest accepted relative deviation from the wanted count
CLOSE = 0.001  # relative deviation at which the search ends
TRIES = 24


@dataclass(frozen=True)
class Matched:
    """A widened recipe.

    Attributes:
        recipe: the recipe with the wider backbone.
        parameters: number of its trainable parameters.
        wanted: number of trainable parameters of graph and text.
    """

    recipe: Recipe
    parameters: int
    wanted: int


def trainable(model: nn.Module) -> int:
    """Number of trainable parameters of a model."""
    return sum(count(p) for p in model.parameters() if p.requires_grad)


def match_width(recipe: Recipe, forms: list[str], states: bool = False) -> Matched:
    """Widen the backbone of a recipe of modality `width_matched`.

    Args:
        recipe: the recipe; the model to match is the same recipe with modality `both`.
        forms: read-out of each target.
        states: the models read charge and multiplicity.

    Raises:
        UserError: if there is no encoder, or no width gives a count within 2 % (for a narrow backbone one
            more channel is a large step).
    """
    files = resolve_encoder(recipe.text.encoder, recipe.text.revision, recipe.text.random)
    both, text = _changed(recipe, modality="both"), TextSource(files, blank=())
    wanted = trainable(FusedModel(both, forms, text, states=states))
    tried: dict[str, Matched] = {}

    def at(factor: float) -> Matched:
        wider = _changed(recipe, backbone=widen(recipe.model.backbone, factor))
        key = wider.model.backbone.model_dump_json()
        if key not in tried:
            tried[key] = Matched(wider, trainable(FusedModel(wider, forms, None, states=states)), wanted)
        return tried[key]

    def off(matched: Matched) -> float:
        return abs(matched.parameters / wanted - 1.0)

    low, high = 1.0, 2.0
    while at(high).parameters < wanted:
        low, high = high, 2.0 * high
    for turn in range(TRIES):
        # the count is nearly quadratic in the factor: interpolate its root, and bisect every other turn
        below, above, goal = (n**0.5 for n in (at(low).parameters, at(high).parameters, wanted))
        share = (goal - below) / (above - below) if turn % 2 == 0 and above > below else 0.5
        factor = low + min(max(share, 0.02), 0.98) * (high - low)
        low, high = (factor, high) if at(factor).parameters < wanted else (low, factor)
        if off(at(factor)) < CLOSE:
            break
    best = min(tried.values(), key=off)
    if off(best) > TOLERANCE:
        raise UserError(
            f"width_matched reaches {best.parameters} of {wanted} trainable parameters: one channel more of "
            f"a backbone this narrow is too large a step; take a larger "
            f"model.backbone.{recipe.model.backbone.widths[0]}, or leave width_matched out"
        )
    return best


def widen(backbone: Backbone, factor: float) -> Backbone:
    """Multiply and round all widths of a backbone.

    The first width is rounded to the nearest integer and the others down, so that they do not all change at
    the same factor.
    """
    changes: dict[str, Any] = {}
    for index, name in enumerate(backbone.widths):
        value, half = getattr(backbone, name), 0.5 if index == 0 else 0.0
        wider = [int(factor * width + half) for width in (value if isinstance(value, tuple) else (value,))]
        changes[name] = tuple(wider) if isinstance(value, tuple) else wider[0]
    return backbone.model_copy(update=changes)


def _changed(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})
