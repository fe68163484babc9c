"""What stands in the JSON files of a run directory, file by file, as types.

They are dictionaries, written and read as they are: a key that a reader uses and a writer forgets is found by
mypy. `RunDir` says where each file is.
"""

from __future__ import annotations

from typing import Any, NotRequired, Required, cast, final

from typing_extensions import TypedDict  # the one that pydantic validates


class Origin(TypedDict):
    """What a run is made from: its recipe, shards, split and plugins, by fingerprint or SHA-256."""

    recipe: str
    shards_sha256: str
    split_sha256: str
    plugins: NotRequired[list[dict[str, str]]]  # of a recipe that names any


class EncoderIdentity(TypedDict):
    """What names an encoder's weights."""

    name: str
    revision: str | None
    fingerprint: str


class ModelSize(TypedDict):
    """Trainable parameters, and how many were to be matched (`width_matched`)."""

    parameters: int
    matched_to: int | None


class SizeRecord(ModelSize):
    """`size.json`."""

    backbone: dict[str, Any]


class DataRecord(Origin):
    """`data.json`."""

    shards: str
    manifest_sha256: str


class GateCounts(TypedDict):
    """Mean of the gate, and how many molecules have it in each equal part of 0 to 1."""

    mean: float
    counts: list[int]


class JournalLine(TypedDict, total=False):
    """One line of `journal.jsonl`; which keys there are depends on its kind.

    Beside these it has metrics under their own names (`val/mae/homo_eV`, `system/memory_gb`): see
    `journal_metric`.
    """

    kind: Required[str]
    step: Required[int]
    epoch: int
    molecules: int
    loss: float
    lr: dict[str, float]
    rate: float
    seconds: float
    imbalance: float
    gate: GateCounts
    why: str
    skipped: int
    world: int
    precision: str


def journal_metric(line: JournalLine, name: str) -> float | None:
    """A metric of a journal line, None where no molecule has a label.

    Raises:
        KeyError: the line has no such metric.
    """
    return cast("dict[str, float | None]", line)[name]


class RunFacts(ModelSize):
    """What a run tells of its training beside its errors."""

    steps: int
    best_step: int
    skipped_steps: int
    seconds: float
    world: int
    precision: str
    weights: str
    averaged_weights: str


class RunMetrics(Origin, RunFacts):
    """`metrics.json` of a run; errors are None where no test molecule has a label."""

    modality: str
    units: dict[str, str]
    molecules: dict[str, int]
    metrics: dict[str, float | None]
    baselines: dict[str, float | None]


class NamedMetrics(RunMetrics):
    """`metrics.json` with the name and the targets of the recipe."""

    name: str
    targets: list[str]


class LearnedFrom(TypedDict):
    """What a model knows: elements it was trained on, and who gave text to which share of the molecules."""

    elements: list[str]
    providers: list[str] | None
    coverage: dict[str, float]


class ExportRecord(TypedDict):
    """`export/model.json`; those of earlier versions lack `learned_from`."""

    step: int
    score: float | None
    targets: list[str]
    backbone: dict[str, Any]
    encoder: EncoderIdentity | None
    units: dict[str, str]
    kinds: dict[str, str]
    learned_from: NotRequired[LearnedFrom]
    sha256: NotRequired[str]


class FileEntry(TypedDict):
    """Size and SHA-256 of a file."""

    bytes: int
    sha256: str


class CheckpointAbout(TypedDict, total=False):
    """What a checkpoint says of its run; those of earlier versions lack some of it."""

    recipe: str
    shards_sha256: str
    split_sha256: str
    plugins: list[dict[str, str]]
    wandb_id: str | None
    versions: dict[str, str]
    zero_stage: int
    encoder: Required[EncoderIdentity | None]


class CheckpointManifest(CheckpointAbout, total=False):
    """`checkpoints/step_N/manifest.json`."""

    step: int
    world: Required[int]
    files: Required[dict[str, FileEntry]]


class LoopValues(TypedDict):
    """`checkpoints/step_N/state.json`: what the training loop continues from (see `TrainState`)."""

    step: int
    best: float | None
    best_step: int
    stale: int
    seconds: float
    skipped: int


class FailureRecord(TypedDict):
    """`failure.json` of a cell that failed."""

    message: str
    traceback: list[str]


class TrialRecord(TypedDict):
    """`trial.json` of a sweep's trial."""

    number: int
    values: dict[str, Any]
    state: str
    reason: str


class SyncRecord(TypedDict):
    """`wandb/replay/synced.json`: up to which step the journal is replayed, into which segments."""

    step: int
    finished: bool
    segments: list[str]


@final
class JobRecord(TypedDict):
    """`slurm/job.json` of a submitted run."""

    job: str
    submitted: float
    profile: str
    world: int
    steps: int
    run: str
    log: str
    code: str
    max_restarts: int


@final
class ReportJobRecord(TypedDict):
    """`slurm/report.json`: the job that follows all runs of an array."""

    job: str
    report: str
    after: str
