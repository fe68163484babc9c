"""Types of the results of `mmgnn train --dry-run` and `mmgnn plan`; `--json` prints them unchanged."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class TextChoiceSummary(TypedDict):
    """The language model and its training mode."""

    encoder: str
    mode: str


class ParameterCount(TypedDict):
    """Total and trainable parameters of a branch."""

    total: int
    trainable: int


class FlopCount(TypedDict):
    """Floating-point operations; a multiply-add counts two."""

    forward_per_molecule: float
    training_per_molecule: float
    forward_per_molecule_by_branch: dict[str, float]
    text_forward_per_token: float | None


class StepSummary(TypedDict):
    """Steps of a run, and molecules, tokens and passes in a step."""

    per_epoch: int
    total: int
    molecules_per_step: float
    tokens_per_step: float
    passes_per_step: int


class BatchSize(TypedDict):
    """Size of the measured micro-batch."""

    molecules: int
    atoms: int
    tokens: int


class FrozenEncoderCost(TypedDict):
    """Cost of a frozen encoder, which reads the shard set once."""

    parameters: int
    flop_per_molecule: float
    flop_per_token: float | None


class RunSummary(TypedDict):
    """Cost of a recipe; `memory_bytes_per_rank` is by use."""

    name: str
    modality: str
    backbone: str
    text: TextChoiceSummary | None
    device: str
    precision: str
    ranks: int
    zero_stage: int
    parameters: dict[str, ParameterCount]
    flop: FlopCount
    largest_parameter: int
    pinned_rounding: int  # bytes that pinned memory adds to a copy of the trained weights
    memory_bytes_per_rank: dict[str, int]
    steps: StepSummary
    measured_on: BatchSize
    seconds_per_pass: NotRequired[float]
    rate_precision: NotRequired[str]  # of the language model in `seconds_per_pass`
    frozen_encoder: NotRequired[FrozenEncoderCost]
    extrapolated: NotRequired[bool]


class StageCost(TypedDict):
    """Memory and messages of one ZeRO stage with one kind of offload; `bytes` and `host` are by use."""

    stage: int
    offload: str
    bytes: dict[str, int]
    peak: int
    host: dict[str, int]
    sent_per_step: int
    seconds_of_messages: float | None
    checkpoint_bytes: int
    fits: bool | None


class SmallestStage(TypedDict):
    """The fastest stage and offload that fits."""

    stage: int
    offload: str
    peak: int


class GoodputPlan(TypedDict):
    """Period of checkpoints, in seconds of work, and the share of the time that is progress."""

    nodes: int
    seconds_between_failures: float  # of all nodes together
    seconds_of_checkpoint: float
    seconds_of_restart: float
    young: float
    daly: float
    goodput: float  # with Daly's period
    # None where the time of a step is not known
    checkpoint_every: int | None  # Daly's period in steps
    goodput_of_recipe: float | None  # with the recipe's own period
    assumed: str


class RecipePlan(TypedDict):
    """Plan of a recipe: all stages and offloads."""

    name: str
    ranks: int
    parameters: int
    trainable: int
    choices: list[StageCost]
    activation_precision: str
    flop_per_step_and_rank: float
    rate: float | None  # None, like the next two: neither given nor measured
    rate_precision: str | None
    seconds_per_step: float | None
    assumed: list[str]
    measured_on: BatchSize
    device: str
    extrapolated: bool
    gpu_memory: int | None
    smallest: SmallestStage | None
    goodput: NotRequired[GoodputPlan]  # with --mtbf
    warnings: list[str]
