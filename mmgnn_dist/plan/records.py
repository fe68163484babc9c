"""What `mmgnn train --dry-run` and `mmgnn plan` find, as types; `--json` prints them as they are."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class TextChoiceSummary(TypedDict):
    """The language model, and how it is trained."""

    encoder: str
    mode: str


class ParameterCount(TypedDict):
    """Parameters of a branch, and those of them that are trained."""

    total: int
    trainable: int


class FlopCount(TypedDict):
    """Operations, two for a multiply-add."""

    forward_per_molecule: float
    training_per_molecule: float
    forward_per_molecule_by_branch: dict[str, float]
    text_forward_per_token: float | None


class StepSummary(TypedDict):
    """Steps of a run, and what one of them takes."""

    per_epoch: int
    total: int
    molecules_per_step: float
    tokens_per_step: float
    passes_per_step: int


class BatchSize(TypedDict):
    """The micro-batch that was measured."""

    molecules: int
    atoms: int
    tokens: int


class FrozenEncoderCost(TypedDict):
    """A frozen encoder, which reads the shard set once."""

    parameters: int
    flop_per_molecule: float
    flop_per_token: float | None


class RunSummary(TypedDict):
    """The cost of a recipe; `memory_bytes_per_rank` by what it holds."""

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
    memory_bytes_per_rank: dict[str, int]
    steps: StepSummary
    measured_on: BatchSize
    seconds_per_pass: NotRequired[float]
    frozen_encoder: NotRequired[FrozenEncoderCost]
    extrapolated: NotRequired[bool]


class StageCost(TypedDict):
    """What one ZeRO stage with one kind of offload takes and sends; `bytes` and `host` by what they hold."""

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
    """The quickest choice that fits."""

    stage: int
    offload: str
    peak: int


class RecipePlan(TypedDict):
    """A recipe laid out for all stages."""

    name: str
    ranks: int
    parameters: int
    trainable: int
    choices: list[StageCost]
    activation_precision: str
    flop_per_step_and_rank: float
    rate: float
    seconds_per_step: float
    measured_on: BatchSize
    device: str
    extrapolated: bool
    gpu_memory: int | None
    smallest: SmallestStage | None
    warnings: list[str]
