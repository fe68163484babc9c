"""The first stage: make text, scaler, model and engine from recipe and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.matched import trainable
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.run_records import EncoderIdentity, ModelSize
from mmgnn_dist.signals import Stopped
from mmgnn_dist.train.checkpoint.export import encoder_identity
from mmgnn_dist.train.engine import BatchPlan, compute_type, make_engine, zero_init
from mmgnn_dist.train.inputs import Inputs, fit_scaler
from mmgnn_dist.train.optim.ema import Average
from mmgnn_dist.train.stages.setting import Setting
from mmgnn_dist.train.start.plan import StartPlan, plan_start
from mmgnn_dist.train.start.proof import refuse_other_start
from mmgnn_dist.train.start.weights import load_start
from mmgnn_dist.train.text_data import TextData, open_text_data


@dataclass(frozen=True)
class Built:
    """The objects that `build` makes.

    Attributes:
        text: text data of the run.
        scaler: scaler of the targets, in host memory.
        batches: loader of the training part.
        plan: division of a global batch.
        model: the model with initial weights.
        autocast: type in which the language model computes, None for float32.
        engine: DeepSpeed engine of the model.
        average: averaged weights.
        size: number of trainable parameters, and the number to match.
        encoder: identity of the language model.
        start: what was taken of a trained model; None for random weights.
    """

    text: TextData
    scaler: Scaler
    batches: Loader
    plan: BatchPlan
    model: FusedModel
    autocast: torch.dtype | None
    engine: Any
    average: Average
    size: ModelSize
    encoder: EncoderIdentity | None
    start: StartPlan | None

    @property
    def precision(self) -> str:
        """The precision of the language model, named as in recipes."""
        return "bf16" if self.autocast else "fp32"


def build(setting: Setting) -> Built:
    """Make text, scaler, model and engine.

    Raises:
        Stopped: a stop signal came meanwhile; finished text sidecars stay.
        UserError: a batch cannot be divided among these ranks, or text cannot be read or made.
    """
    inputs, ranks = setting.inputs, setting.ranks
    autocast = compute_type(inputs.recipe, ranks.device)
    text = _open_text(setting)
    ranks.beat("building the model")
    scaler = fit_scaler(inputs)
    batches = inputs.training(text.tokens, ranks)
    plan = BatchPlan(inputs.recipe.train.batch, batches.passes, ranks.world)
    with zero_init(inputs.recipe, plan, ranks.device):
        model = inputs.model(text.source, autocast)
    start = plan_start(inputs)
    refuse_other_start(setting.run, start)
    if start is not None:
        taken = inputs.recipe.train.start_scaling == "taken"
        scaler = load_start(model, scaler, start, inputs.forms, taken)
    size = _size(model, inputs)
    ranks.beat("starting DeepSpeed")
    engine = make_engine(model, inputs.recipe, plan, ranks.device)
    return Built(
        text=text,
        scaler=scaler,
        batches=batches,
        plan=plan,
        model=model,
        autocast=autocast,
        engine=engine,
        average=Average(model),
        size=size,
        encoder=encoder_identity(inputs.files),
        start=start,
    )


def _open_text(setting: Setting) -> TextData:
    """Read or make the text of the run.

    Raises:
        Stopped: a stop signal came meanwhile.
        UserError: a batch cannot be divided among these ranks, or text cannot be read or made.
    """
    inputs, ranks = setting.inputs, setting.ranks
    inputs.training(None, ranks)  # refuses a batch that cannot be divided among these ranks, before any work
    text = open_text_data(inputs, ranks, setting.progress, setting.run.verified)
    if ranks.stop_asked():
        raise Stopped
    return text


def _size(model: FusedModel, inputs: Inputs) -> ModelSize:
    matched = inputs.matched
    return {"parameters": trainable(model), "matched_to": matched.wanted if matched else None}
