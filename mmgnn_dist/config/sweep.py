"""The section `sweep` of a recipe: what `mmgnn sweep` varies, how it searches, and what a trial may use."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from mmgnn_dist.config.section import ConfigSection

CLASS_METRICS = ("auroc", "auprc", "balanced_accuracy")  # of each target, the first one stands for it
Mode = Literal["min", "max"]

# keys that must be the same in all trials, so that their validation errors can be compared
FIXED = {
    "name",
    "targets",
    "twins",
    "data",
    "track",
    "sweep",
    "study",
    "train.weights",
    "train.scaling",
    "train.seed",
    "train.epochs",
    "train.max_steps",
    "train.validate_every",
    "train.patience",
    "train.min_steps",
    "train.deadline",
    "train.threads",
    "train.log_ids",
    "train.checkpoint_every",
    "train.keep_checkpoints",
}


class Dimension(ConfigSection):
    """The values that one key of the recipe may take."""

    kind: Literal["float", "int", "choice"] = Field(
        description="float and int are drawn between low and high, a choice is one of values",
        json_schema_extra={"with": ["sweep.space.KEY.low", "sweep.space.KEY.high", "sweep.space.KEY.values"]},
    )
    low: float | None = Field(None, description="lower bound, in the unit of the key")
    high: float | None = Field(None, description="upper bound, in the unit of the key")
    log: bool = Field(
        False,
        description="draw evenly on a logarithmic scale",
        json_schema_extra={"with": ["sweep.space.KEY.low"]},
    )
    values: list[Any] | None = Field(
        None, description="values of a choice; sections too: {name: painn, hidden: 64}"
    )

    @model_validator(mode="after")
    def _bounds(self) -> Dimension:
        if self.kind == "choice":
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("a choice has values and no low, high or log")
            if not self.values or len({repr(value) for value in self.values}) < len(self.values):
                raise ValueError("a choice needs values, each once")
            return self
        if self.values is not None:
            raise ValueError(f"kind={self.kind} has low and high; values belong to kind=choice")
        if self.low is None or self.high is None or not self.low < self.high or math.isinf(self.high):
            raise ValueError(f"low={self.low}, high={self.high}: give two bounds, the lower one first")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low} has no logarithm: give one above 0, or leave out log")
        if self.kind == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"low={self.low}, high={self.high}: kind=int has whole bounds")
        return self

    @property
    def corners(self) -> list[Any]:
        """The values to check: if a recipe accepts them, it accepts all values between them."""
        if self.kind == "choice":
            return list(self.values or [])
        return [int(v) if self.kind == "int" else v for v in (self.low, self.high) if v is not None]


class SweepConfig(ConfigSection):
    """A search over recipes."""

    space: dict[str, Dimension] = Field(
        min_length=1,
        description="what varies, by dotted key of the recipe: {train.optim.lr: {kind: float, low: 1.0e-4, "
        "high: 1.0e-2, log: true}}",
    )
    samples: int = Field(16, ge=1, description="number of trials in all")
    metric: str = Field(
        "val/score",
        description="what trials are judged by: val/score (mean of all targets: errors in standard "
        "deviations, cross entropies of classes) or val/mae/TARGET_UNIT, which are minimised, or "
        "val/auroc/CLASS, val/auprc/CLASS or val/balanced_accuracy/CLASS, which are maximised",
        json_schema_extra={"with": ["targets", "train.weights"]},
    )
    searcher: Literal["optuna", "random"] = Field(
        "optuna", description="what proposes values: Optuna's TPE, which learns from trials, or random draws"
    )
    scheduler: Literal["asha", "none"] = Field(
        "asha",
        description="asha ends the worse trials early; none: all train to the end",
        json_schema_extra={"with": ["sweep.grace", "sweep.reduction"]},
    )
    grace: int = Field(1, ge=1, description="validations that every trial may have before asha ends it")
    reduction: int = Field(3, ge=2, description="at each rung asha continues one of this many trials")
    ranks: int = Field(
        1,
        ge=1,
        description="processes of a trial, on one node",
        json_schema_extra={"with": ["sweep.cpus", "sweep.gpus"]},
    )
    cpus: int = Field(1, ge=1, description="CPUs of a rank")
    gpus: float = Field(
        0, ge=0, le=1, description="GPUs of a rank; 0.5: two trials share one; 0: train on the CPU"
    )
    concurrent: int | None = Field(
        None, ge=1, description="trials at a time; null: as many as there is room for"
    )
    seed: int = Field(
        0, ge=0, description="seed of the searcher", json_schema_extra={"with": ["sweep.searcher"]}
    )

    @model_validator(mode="after")
    def _whole(self) -> SweepConfig:
        if self.ranks > 1 and 0 < self.gpus < 1:
            raise ValueError(
                f"sweep.gpus={self.gpus} with sweep.ranks={self.ranks}: ranks that exchange gradients need a "
                "GPU each, use sweep.gpus=1"
            )
        return self

    @property
    def mode(self) -> Mode:
        """Whether the least or the largest value of the metric is the best."""
        return "max" if self.metric.startswith(tuple(f"val/{kind}/" for kind in CLASS_METRICS)) else "min"
