"""Types of the JSON files of a run directory.

The records are plain dictionaries, so mypy finds a key that a reader uses and a writer forgets. `RunDir` has
the path of each file.
"""

from __future__ import annotations

from typing import Any, NotRequired, Required, cast, final

from typing_extensions import TypedDict  # pydantic validates this one only


class Origin(TypedDict):
    """The sources of a run (recipe, shards, split, plugins), by fingerprint or SHA-256."""

    recipe: str
    shards_sha256: str
    split_sha256: str
    plugins: NotRequired[list[dict[str, str]]]  # only if the recipe uses plugins


class EncoderIdentity(TypedDict):
    """Name, revision and fingerprint that identify an encoder's weights."""

    name: str
    revision: str | None
    fingerprint: str


def same_encoder(one: EncoderIdentity | None, other: EncoderIdentity | None) -> bool:
    """Whether two encoders have the same weights, wherever they lie."""
    if one is None or other is None:
        return one is other
    return one["fingerprint"] == other["fingerprint"]


class ModelSize(TypedDict):
    """Number of trainable parameters, and the number to match (`width_matched`)."""

    parameters: int
    matched_to: int | None


class SizeRecord(ModelSize):
    """`size.json`."""

    backbone: dict[str, Any]


class RunPaths(TypedDict, total=False):
    """Paths relative to a run directory: its shard set, and its encoder if that is a folder."""

    shards_from_run: str
    encoder_from_run: str


class DataRecord(Origin, RunPaths):
    """`data.json`; `shards` is the path as the run began with it."""

    shards: str
    manifest_sha256: str


class GateCounts(TypedDict):
    """Mean of the gate, and a histogram of its values over molecules with equal bins from 0 to 1."""

    mean: float
    counts: list[int]


class BusyRanks(TypedDict):
    """Seconds for which ranks worked on a step by themselves: mean, longest, and the rank of the longest."""

    mean: float
    worst: float
    rank: int


class Lost(TypedDict):
    """Cost of an interruption: steps that run again, their seconds, and the seconds until the next start."""

    steps: int
    seconds: float
    idle: float


class Conditions(TypedDict):
    """What decides the bits of a run beside its recipe, its data and the number of ranks."""

    machine: str
    threads: int
    micro_batch: int | None
    versions: dict[str, str]


class JournalLine(TypedDict, total=False):
    """One line of `journal.jsonl`; its keys depend on its kind.

    A line also has metrics under their own names (`val/mae/homo_eV`, `system/memory_gb`): see
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
    busy: BusyRanks  # only with several ranks
    gate: GateCounts
    why: str
    skipped: int
    world: int
    precision: str
    text_left_out: dict[str, int]
    # older lines lack what follows
    conditions: Conditions
    data: Origin
    molecules_hash: str
    weights_hash: str
    copies_differ: bool
    time: float  # of `start` and `resume`, s since 1970
    lost: Lost  # of `resume`
    hash: str


def journal_metric(line: JournalLine, name: str) -> float | None:
    """Return a metric of a journal line; None where no molecule has a label.

    Raises:
        KeyError: the line has no such metric.
    """
    return cast("dict[str, float | None]", line)[name]


class RunFacts(ModelSize):
    """Facts about the training of a run, apart from its errors."""

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
    """Training data of a model.

    Elements, text providers, the share of molecules with each field, own text fields, whether molecules
    choose their fields; charges and multiplicities, which files of earlier versions lack.
    """

    elements: list[str]
    providers: list[str] | None
    coverage: dict[str, float]
    text_columns: NotRequired[dict[str, str]]
    check_names: NotRequired[str]
    selected_fields: NotRequired[bool]
    charges: NotRequired[list[int]]
    multiplicities: NotRequired[list[int]]
    atoms: NotRequired[list[int]]  # of the smallest and of the largest molecule


class Calibration(TypedDict):
    """Radii of intervals of a target by their level, from so many molecules of the validation part."""

    molecules: int
    radii: dict[str, float | None]


class ExportedClasses(TypedDict, total=False):
    """Names of the classes of each target of kind class, in the order of their probabilities."""

    classes: dict[str, list[str]]


class ExportRecord(ExportedClasses):
    """`export/model.json`; files of earlier versions lack `learned_from`."""

    step: int
    score: float | None
    targets: list[str]
    backbone: dict[str, Any]
    encoder: EncoderIdentity | None
    units: dict[str, str]
    kinds: dict[str, str]
    learned_from: NotRequired[LearnedFrom]
    reads_states: NotRequired[bool]  # charge and multiplicity; earlier versions read none
    calibration: NotRequired[dict[str, Calibration]]  # by target; earlier versions have none
    sha256: NotRequired[str]


class StartRecord(TypedDict):
    """`start.json`: the trained model that a run started from, and the score of its weights before training.

    `recorded` is the score that the source recorded, None if its data or its task are others.
    """

    source: str
    sha256: str
    parts: list[str]
    targets: list[str]
    score: float
    recorded: float | None


class FileEntry(TypedDict):
    """Size and SHA-256 of a file."""

    bytes: int
    sha256: str


class CheckpointAbout(TypedDict, total=False):
    """What a checkpoint records about its run; checkpoints of earlier versions lack some keys."""

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
    """`checkpoints/step_N/state.json`: the state of the training loop (see `TrainState`)."""

    step: int
    best: float | None
    best_step: int
    stale: int
    seconds: float
    skipped: int
    tables: NotRequired[bool]  # older checkpoints lack it and what follows
    journal: NotRequired[str]
    shares: NotRequired[str]


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
    """`wandb/replay/synced.json`: the last step replayed from the journal, and the segments written."""

    step: int
    finished: bool
    segments: list[str]


@final
class JobRecord(TypedDict):
    """`slurm/job.json` of a submitted run; those of earlier versions have no submission and no successors."""

    job: str
    submission: NotRequired[str]
    successors: NotRequired[list[str]]  # jobs that follow it, each on the end of those before
    refused: NotRequired[str]  # why Slurm took fewer successors than there may be restarts
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
    """`slurm/report.json`: the job that runs after all runs of an array."""

    job: str
    report: str
    after: str
