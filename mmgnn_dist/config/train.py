"""The sections `train` and `track` of a recipe: optimiser, steps, precision, checkpoints, tracking."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmgnn_dist.config.choices import MetricName, OptimizerName
from mmgnn_dist.config.section import ADDED_LATER, ConfigSection

# keys of `train` that may change when a run continues
RESUMABLE_KEYS = {
    "deadline",
    "timeout",
    "max_skipped",
    "checkpoint_every",
    "keep_checkpoints",
    "log_ids",
    "threads",
    "micro_batch",
}


class OptimConfig(ConfigSection):
    """Optimiser with a learning rate per branch, warm-up and cosine decay, clipping, EMA."""

    name: Annotated[OptimizerName, ADDED_LATER] = Field(
        "adamw", description="the optimiser: AdamW, or that of an installed package"
    )
    lr: float = Field(1e-3, gt=0, description="peak learning rate of the backbone")
    lr_text: float = Field(
        5e-5,
        gt=0,
        description="peak learning rate of the language model, or of its adapters",
        json_schema_extra={"with": ["text.mode"]},
    )
    lr_fusion: float = Field(1e-3, gt=0, description="peak learning rate of fusion and read-out")
    weight_decay: float = Field(
        0.01, ge=0, description="weight decay, on matrices alone: biases and norms have none"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of all steps in which the rate rises linearly")
    final_lr: float = Field(
        0.01, ge=0, le=1, description="learning rate at the end of the cosine, as a share of the peak"
    )
    clip: float | None = Field(
        1.0, gt=0, description="largest norm of the gradient over all parameters; null: no limit"
    )
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="decay per step of the averaged weights, which are tested and exported; 0: no average",
    )


class TrainConfig(ConfigSection):
    """Steps, loss, precision, what the ranks share out, checkpoints, and when a run ends."""

    epochs: int = Field(
        10,
        ge=1,
        description="passes over the training part",
        json_schema_extra={"with": ["train.max_steps", "train.patience"]},
    )
    max_steps: int | None = Field(
        None, ge=1, description="end after this many steps, the schedule too; null: after train.epochs"
    )
    batch: int = Field(32, ge=1, description="molecules in an optimiser step, over all ranks")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="most molecules that a rank takes in one pass; null: no accumulation",
        json_schema_extra={"with": ["train.batch"]},
    )
    sampling: Annotated[Literal["uniform", "stratified"], ADDED_LATER] = Field(
        "uniform",
        description="how batches are drawn; uniform: from a permutation of all molecules; stratified: one "
        "molecule of every stratum of like size, so that the work of a rank does not grow with their number",
        json_schema_extra={"with": ["train.batch"]},
    )
    seed: int = Field(
        0, ge=0, description="seed of initial weights, order of molecules, dropout and all other random draws"
    )
    loss: Literal["l1", "mse", "huber"] = Field(
        "l1",
        description="error of one label, in the units of train.scaling; huber: quadratic below 1",
        json_schema_extra={"with": ["train.scaling"]},
    )
    scaling: Literal["standard", "raw"] = Field(
        "standard",
        description="how targets are learned; standard: minus what composition explains, in standard "
        "deviations; raw: as they are, in their units",
    )
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {},
        description="weight of single targets in loss and validation score; 1 for the others",
        json_schema_extra={"with": ["targets"]},
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="number type in which the language model computes; graph, fusion and weights stay fp32; "
        "auto: bf16 where the hardware has it",
    )
    dropout: bool = Field(
        True, description="false: no layer drops anything, those of the language model included"
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        0,
        description="ZeRO stage, what is sharded among the ranks: 1 the optimiser, 2 gradients too, "
        "3 weights too; 0 nothing",
        json_schema_extra={"with": ["train.offload"]},
    )
    offload: Literal["none", "optimizer", "parameters"] = Field(
        "none",
        description="what is kept and updated in host memory: the optimiser (zero_stage 1 to 3), and the "
        "weights too (zero_stage 3); useful only with GPUs",
    )
    validate_every: int = Field(1, ge=1, description="epochs between two validations")
    patience: int | None = Field(
        None,
        ge=1,
        description="validations without improvement after which training ends early; null: never",
        json_schema_extra={"with": ["train.validate_every", "train.min_steps"]},
    )
    min_steps: Annotated[int, ADDED_LATER] = Field(
        0,
        ge=0,
        description="steps before which train.patience ends nothing",
        json_schema_extra={"with": ["train.patience"]},
    )
    checkpoint_every: int = Field(200, ge=1, description="steps between two checkpoints")
    keep_checkpoints: int = Field(
        2,
        ge=1,
        description="how many of the newest checkpoints are kept, beside the best one; with one, a single "
        "damaged file loses the run",
        json_schema_extra={"with": ["train.checkpoint_every"]},
    )
    deterministic: bool = Field(
        False, description="use only operations that give the same bits from run to run, on GPUs too"
    )
    max_skipped: int = Field(
        10,
        ge=0,
        description="steps that may be left out, for a loss or gradient that is not finite, before the run "
        "stops",
    )
    timeout: int = Field(
        1800,
        ge=4,
        description="seconds without progress after which a rank names the ranks it waits for, and ends",
    )
    deadline: float | None = Field(
        None,
        gt=0,
        description="seconds after its start by which a run has saved and ended (exit code 3); null: the end "
        "of its Slurm job, if it is in one",
    )
    threads: int = Field(
        0, ge=0, description="CPU threads of a rank; 0: cores of the machine divided by its ranks"
    )
    save_vectors: bool = Field(
        False, description="write vectors of at most 2,000 test molecules to vectors.safetensors"
    )
    log_ids: bool = Field(False, description="write the molecules of every step to logs/ids_rank_N.jsonl")
    metrics: Annotated[list[MetricName], ADDED_LATER] = Field(
        [], description="metrics that validations write into the journal besides the mean absolute error"
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
    """What a run sends to Weights & Biases."""

    wandb: Literal["offline", "online", "disabled"] = Field(
        "offline",
        description="whether a run writes a W&B record, and uploads it; the key is read from the environment "
        "variable WANDB_API_KEY",
    )
    project: str = Field("mmgnn", description="project in W&B", json_schema_extra={"with": ["track.wandb"]})
    group: str | None = Field(
        None,
        description="group in W&B of runs that belong together; null: arrays, sweeps, studies and twins "
        "set it",
        json_schema_extra={"with": ["track.wandb"]},
    )
    tags: list[str] = Field(
        [], description="labels of the run in W&B", json_schema_extra={"with": ["track.wandb"]}
    )
    artifact: Literal["none", "export", "checkpoint"] = Field(
        "none",
        description="files of a finished run that W&B gets: its exported weights, or a checkpoint to "
        "continue from",
        json_schema_extra={"with": ["track.wandb"]},
    )
