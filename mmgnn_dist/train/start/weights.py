"""The weights of a trained model in the model of a run, read-outs by target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import sha256
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.readout import PLACES, Scaler
from mmgnn_dist.models.zero3 import gathered
from mmgnn_dist.train.checkpoint.export import put_weights
from mmgnn_dist.train.start.plan import StartPlan

# modules of `FusedModel` by part; constants that stand for an absent side go with the fusion
PART_OF = {
    "backbone": "backbone",
    "encoder": "text",
    "project": "text",
    "context": "text",
    "readout": "readout",
}
STATE = "backbone.state."  # starts at zero for neutral singlets: a source without it has the same function
# parameters of `ReadOut` that belong to the outputs of one form
OF_FORM = {
    "charge": PLACES["dipoles"],
    "vector_charge": PLACES["vector_dipoles"],
    "moment": PLACES["vector_dipoles"],
    "score": PLACES["attended"],
    "density": PLACES["extents"],
}


def load_start(
    model: FusedModel, scaler: Scaler, plan: StartPlan, forms: Sequence[str], taken: bool
) -> Scaler:
    """Copy the planned parts of a trained model into a model; all ranks call this function.

    Args:
        model: the model of the run, sharded or not.
        scaler: scaler that was fitted on the training part of the run.
        plan: what to take.
        forms: read-out of each output of the run.
        taken: take the scale and the references of the read-outs that are taken, too.

    Returns:
        The scaler of the run.

    Raises:
        UserError: the weights are altered or do not fit.
    """
    from safetensors.torch import load_file

    run = plan.source
    if sha256(run.export_weights) != plan.about["sha256"]:
        raise UserError(f"{run.export_weights} is truncated or altered: train the run again")
    tensors = load_file(run.export_weights)
    stored = {key.removeprefix("model."): v for key, v in tensors.items() if key.startswith("model.")}
    put_weights(model, _weights(model, stored, plan, forms))
    return _with_scale(scaler, tensors, plan) if taken else scaler


def _weights(
    model: FusedModel, stored: dict[str, Tensor], plan: StartPlan, forms: Sequence[str]
) -> dict[str, Tensor]:
    """The new values of weights and buffers by name."""
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    buffers = {name: value for name, value in model.state_dict().items() if name not in dict(trainable)}
    chosen: dict[str, Tensor] = {}
    for name, value in (*gathered(trainable), *((n, v) for n, v in buffers.items() if n not in frozen)):
        may_lack = name.startswith(STATE) or _of_output(name)
        if _part(name) not in plan.parts or (may_lack and name not in stored):
            continue
        if name not in stored:
            raise UserError(f"{plan.source.path} has no weight {name}, which this recipe has")
        is_rows = _part(name) == "readout" and not name.startswith("readout.hidden.")
        new = _rows(name, value.clone(), stored[name], plan, forms) if is_rows else stored[name]
        if new.shape != value.shape:
            raise UserError(
                f"{name} of {plan.source.path} has the shape {tuple(new.shape)}, and that of this recipe "
                f"{tuple(value.shape)}"
            )
        chosen[name] = new
    known = {name for name, _ in trainable} | set(buffers)
    extra = [
        name for name in stored if _part(name) in plan.parts and name not in known and not _of_output(name)
    ]
    if extra:
        raise UserError(f"{plan.source.path} has a weight {extra[0]}, which this recipe has not")
    return chosen


def _part(name: str) -> str:
    return PART_OF.get(name.split(".", 1)[0], "fusion")


def _of_output(name: str) -> bool:
    """Whether a parameter belongs to outputs of one form, so that a model without them has none."""
    return name.startswith("readout.") and name.split(".")[1] in OF_FORM


def _rows(name: str, own: Tensor, other: Tensor, plan: StartPlan, forms: Sequence[str]) -> Tensor:
    """Put the rows of the outputs that are taken into a parameter of the read-out."""
    form = OF_FORM.get(name.split(".")[1])
    places = [
        [place for place, of_output in enumerate(listed) if form is None or of_output == form]
        for listed in (plan.forms, forms)
    ]
    counts = [len(listed) for listed in places]
    ours, theirs = own.view(counts[1], -1, *own.shape[1:]), other.view(counts[0], -1, *other.shape[1:])
    for there, here in plan.outputs:
        if there in places[0]:
            if ours.shape[1:] != theirs.shape[1:]:
                return other  # the caller names the shapes
            ours[places[1].index(here)] = theirs[places[0].index(there)]
    return own


def _with_scale(scaler: Scaler, tensors: dict[str, Tensor], plan: StartPlan) -> Scaler:
    """The scaler with scale, mean and references of the outputs that are taken."""
    new = Scaler(*(value.clone() for value in vars(scaler).values()))
    for name, value in vars(new).items():
        other = tensors[f"scaler.{name}"]
        for there, here in plan.outputs:
            value[..., here] = other[..., there].to(torch.float64)
    return new
