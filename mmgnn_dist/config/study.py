"""The grid of a study: which models are trained, to be compared with each other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mmgnn_dist.config.choices import Fusion
from mmgnn_dist.config.section import ConfigSection

Arm = Literal["graph", "text", "both", "width_matched", "zero", "shuffled", "random"]
CONTROLS = ("zero", "shuffled", "random")  # arms that read a control text beside the graph


class StudyConfig(ConfigSection):
    """Backbones x arms x targets x folds x seeds, and variants of them one at a time."""

    backbones: dict[str, dict[str, Any]] = Field(
        {},
        description="name: {key: value}, overrides of the recipe such as model.backbone; none: its own alone",
    )
    arms: list[Arm] = Field(
        ["graph", "both", "shuffled"],
        min_length=1,
        description="what is read; zero, shuffled and random are both with that text.control",
    )
    targets: Literal["together", "each"] = Field("together", description="one model for all, or one for each")
    folds: list[Annotated[int, Field(ge=0)]] = Field([], description="of data.split; none: all of them")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1, description="train.seed of the runs")
    fusions: list[Fusion] = Field([], description="all arms with other fusions too")
    modes: list[Literal["frozen", "lora", "full"]] = Field(
        [], description="the arms that read text with other text.mode too"
    )
    fields: list[Literal["without", "alone"]] = Field(
        [], description="both, leaving out each of text.fields, or with each alone"
    )
    sizes: list[Annotated[int, Field(ge=2)]] = Field(
        [], description="graph, both and shuffled on so many training molecules, for as many steps"
    )
    variants_of: list[str] = Field([], description="backbones that fusions to sizes are for; none: all")
    workers: int = Field(0, ge=0, description="runs at a time here; 0: one for each GPU, else for each core")

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
        return self
