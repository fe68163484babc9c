"""Optimiser, steps, precision, checkpoints, tracking."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmgnn_dist.config.choices import MetricName, OptimizerName
from mmgnn_dist.config.section import ADDED_LATER, ConfigSection

# of `train`: what may change while a run goes on
RESUMABLE_KEYS = {
    "deadline",
    "timeout",
    "max_skipped",
    "checkpoint_every",
    "keep_checkpoints",
    "log_ids",
    "micro_batch",
}


class OptimConfig(ConfigSection):
    """Optimiser with a learning rate per branch, warm-up and cosine decay, clipping, EMA."""

    name: Annotated[OptimizerName, ADDED_LATER] = Field(
        "adamw", description="the optimiser: AdamW, or that of an installed package"
    )
    lr: float = Field(1e-3, gt=0, description="backbone")
    lr_text: float = Field(5e-5, gt=0, description="language model or its adapters")
    lr_fusion: float = Field(1e-3, gt=0, description="fusion and read-out")
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of all steps")
    final_lr: float = Field(0.01, ge=0, le=1, description="share of the peak at the end of the cosine")
    clip: float = Field(1.0, gt=0, description="global gradient norm")
    ema: float = Field(0.999, ge=0, lt=1, description="0: no average of the weights")


class TrainConfig(ConfigSection):
    """Steps, precision, checkpoints."""

    epochs: int = Field(10, ge=1)
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps (the schedule too)")
    batch: int = Field(32, ge=1, description="global batch: molecules per optimiser step")
    micro_batch: int | None = Field(
        None, ge=1, description="molecules per rank and pass; none: no accumulation"
    )
    seed: int = Field(0, ge=0)
    loss: Literal["l1", "mse", "huber"] = "l1"
    scaling: Literal["standard", "raw"] = Field(
        "standard",
        description="standard: less what composition explains, in standard deviations; raw: as it is",
    )
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {}, description="weight of single targets in the loss, 1 for the others"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware has it"
    )
    dropout: bool = Field(True, description="false: no dropout anywhere, the language model included")
    zero_stage: Literal[0, 1, 2, 3] = Field(
        0, description="what the ranks share out: 1 the optimiser, 2 gradients too, 3 weights too; 0 nothing"
    )
    offload: Literal["none", "optimizer", "parameters"] = Field(
        "none",
        description="what is kept and updated in host memory: the optimiser (zero_stage 1 to 3), and the "
        "weights too (zero_stage 3); of use with GPUs alone",
    )
    validate_every: int = Field(1, ge=1, description="epochs")
    patience: int | None = Field(None, ge=1, description="validations without gain before an early stop")
    checkpoint_every: int = Field(200, ge=1, description="steps")
    keep_checkpoints: int = Field(1, ge=1, description="beside the best one")
    deterministic: bool = Field(
        False, description="on GPUs too only operations that give the same bits from run to run"
    )
    max_skipped: int = Field(
        10, ge=0, description="steps left out for a loss or gradient that is not finite before the run stops"
    )
    timeout: int = Field(
        1800,
        ge=4,
        description="seconds without progress after which a rank names whom it waits for, and ends",
    )
    deadline: float | None = Field(
        None, gt=0, description="seconds after its start at which a run has saved and left (exit code 3)"
    )
    threads: int = Field(0, ge=0, description="CPU threads per rank; 0: cores divided by ranks")
    save_vectors: bool = Field(
        False, description="write vectors of the test molecules to vectors.safetensors"
    )
    log_ids: bool = Field(False, description="write the molecules of every step to logs/ids_rank_N.jsonl")
    metrics: Annotated[list[MetricName], ADDED_LATER] = Field(
        [], description="what validations write into the journal beside the mean absolute error"
    )
    optim: OptimConfig = OptimConfig()

    @model_validator(mode="after")
    def _sharding(self) -> TrainConfig:
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError(
                "train.offload=optimizer needs train.zero_stage=1, 2 or 3: DeepSpeed moves no other optimiser"
            )
        if self.offload == "parameters" and self.zero_stage != 3:
            raise ValueError(
                f"train.offload=parameters needs train.zero_stage=3: at stage {self.zero_stage} every rank "
                "computes with all weights; use train.zero_stage=3, or train.zero_stage=1 with "
                "train.offload=optimizer"
            )
        return self


class TrackConfig(ConfigSection):
    """Weights & Biases."""

    wandb: Literal["offline", "online", "disabled"] = "offline"
    project: str = "mmgnn"
    group: str | None = Field(
        None,
        description="runs that belong together; arrays, sweeps, studies and twins set it where it is not",
    )
    tags: list[str] = Field([], description="labels of the run in W&B")
    artifact: Literal["none", "export", "checkpoint"] = Field(
        "none", description="what a finished run hands to W&B: its weights, or all it could continue from"
    )
