"""The section `study` of a recipe: the grid of models that are trained and compared."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from mmgnn_dist.config.choices import Fusion
from mmgnn_dist.config.section import ConfigSection
from mmgnn_dist.config.text import ControlText

Arm = Literal["graph", "text", "both", "width_matched", ControlText, "again"]
AGAIN_SEED = 10_000  # what the arm again adds to train.seed
FOLD_SEED = 1_000_000  # what study.own_seeds adds to it from fold to fold
CONTROLS: tuple[str, ...] = get_args(ControlText)  # arms that read a control text beside the graph

# what overrides of single targets may not change
SET_BY_STUDY = {
    *("name", "targets", "twins", "data", "study", "sweep", "track"),
    *("model.modality", "text.control", "train.seed"),
}


class StudyConfig(ConfigSection):
    """Backbones x arms x targets x folds x seeds, and variants of them one at a time."""

    backbones: dict[str, dict[str, Any]] = Field(
        {},
        description="backbones by a name of your own, each with overrides of the recipe: "
        "{NAME: {model.backbone: {name: painn}}}; {}: the recipe's own alone",
        json_schema_extra={"with": ["model.backbone"]},
    )
    arms: list[Arm] = Field(
        ["graph", "both", "shuffled", "again"],
        min_length=1,
        description=f"what the models read; {', '.join(CONTROLS)} mean both with that text.control; "
        f"again: graph with train.seed + {AGAIN_SEED}, to see what another training alone changes",
        json_schema_extra={"with": ["model.modality", "text.control"]},
    )
    targets: Literal["together", "each"] = Field(
        "together",
        description="one model for all targets, or one for each",
        json_schema_extra={"with": ["targets"]},
    )
    by_target: dict[str, dict[str, Any]] = Field(
        {},
        description="overrides of the recipe for single targets, with study.targets=each: {homo: "
        "{text.fields: [iupac_name, xlogp]}}; text.fields may itself be a mapping from target to list",
        json_schema_extra={"with": ["study.targets", "text.fields"]},
    )
    folds: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        description="folds of data.split; []: all of them",
        json_schema_extra={"with": ["data.split", "data.fold"]},
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0], min_length=1, description="values of train.seed", json_schema_extra={"with": ["train.seed"]}
    )
    own_seeds: bool = Field(
        False,
        description="every fold has seeds of its own, so that initial weights vary too from fold to fold: "
        f"train.seed + {FOLD_SEED} times the fold",
        json_schema_extra={"with": ["train.seed", "study.seeds", "study.folds"]},
    )
    fusions: list[Fusion] = Field(
        [],
        description="other fusions with which all arms are trained too",
        json_schema_extra={"with": ["model.fusion", "study.variants_of"]},
    )
    modes: list[Literal["frozen", "lora", "full"]] = Field(
        [],
        description="other values of text.mode with which all arms but graph are trained too",
        json_schema_extra={"with": ["text.mode", "study.variants_of"]},
    )
    fields: list[Literal["without", "alone"]] = Field(
        [],
        description="train both again without each one of text.fields, or with each alone",
        json_schema_extra={"with": ["text.fields", "study.variants_of"]},
    )
    sizes: list[Annotated[int, Field(ge=2)]] = Field(
        [],
        description="numbers of training molecules on which graph, both and shuffled are trained too, for as "
        "many steps as on the whole training part",
        json_schema_extra={"with": ["data.train_size", "study.variants_of", "study.size_steps"]},
    )
    size_steps: int | None = Field(
        None,
        ge=1,
        description="steps that every run of study.sizes takes at least, before train.patience may end it; "
        "null: as many as on the whole training part",
        json_schema_extra={"with": ["study.sizes", "train.patience", "train.min_steps"]},
    )
    variants_of: list[str] = Field(
        [],
        description="names of study.backbones to which fusions, modes, fields and sizes apply; []: all",
        json_schema_extra={"with": ["study.backbones"]},
    )
    workers: int = Field(
        0,
        ge=0,
        description="runs at a time; 0: one for each GPU; without GPUs as many as the cores have room for",
        json_schema_extra={"with": ["train.threads"]},
    )

    @model_validator(mode="after")
    def _by_target(self) -> StudyConfig:
        if self.by_target and self.targets != "each":
            raise ValueError(
                "study.by_target and text.fields by target need a model for each target: use "
                "study.targets=each"
            )
        for target, changes in self.by_target.items():
            for key in changes:
                if key in SET_BY_STUDY or key.split(".")[0] in SET_BY_STUDY:
                    raise ValueError(
                        f"study.by_target.{target}: {key} must be the same for all targets, or is set by the "
                        "study: leave it out"
                    )
        return self

    @model_validator(mode="after")
    def _names(self) -> StudyConfig:
        for name in self.backbones:
            if not name.replace("_", "").isalnum():
                raise ValueError(f"study.backbones.{name}: use letters, digits and '_' in its name")
        for name in self.variants_of:
            if name not in self.backbones:
                raise ValueError(f"study.variants_of: '{name}' is none of study.backbones")
        for key in ("arms", "folds", "seeds", "fusions", "modes", "fields", "sizes"):
            chosen = getattr(self, key)
            if len(set(chosen)) != len(chosen):
                raise ValueError(f"study.{key}: name each once")
        for seed in self.seeds:
            if "again" in self.arms and seed + AGAIN_SEED in self.seeds:
                raise ValueError(
                    f"study.seeds: the arm again trains with {seed} + {AGAIN_SEED}, which is also a seed: "
                    f"choose seeds below {AGAIN_SEED}"
                )
        return self
