"""The fused model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mmgnn_dist.config.backbones import SchNetConfig
from mmgnn_dist.config.choices import Backbone, Fusion
from mmgnn_dist.config.section import ADDED_LATER, ConfigSection, MeantBefore

Modality = Literal["graph", "text", "both", "width_matched"]
ReadOutName = Literal["sum", "mean", "attention", "dipole", "dipole_vectors", "dipole_norm", "r2"]


class ModelConfig(ConfigSection):
    """The fused model: what it reads, its backbone, how text and graph are joined, and its read-outs."""

    modality: Modality = Field(
        "both",
        description="what the model reads; width_matched: the graph alone, widened until it has as many "
        "trainable parameters as both",
        json_schema_extra={"with": ["twins"]},
    )
    backbone: Backbone = Field(
        SchNetConfig(), description="The network that reads the graph; its keys depend on its name."
    )
    radial: Annotated[Literal["auto", "direct"], ADDED_LATER] = Field(
        "auto",
        description="how SchNet's filters are computed in training; auto: on a grid of distances and "
        "interpolated where a batch has many pairs, at ZeRO stages 0 to 2; direct: for every pair",
        json_schema_extra={"with": ["train.zero_stage"]},
    )
    fusion: Fusion = Field(
        "gate",
        description="how the text vector joins the atom vectors; gate_paper: after pooling, as published; "
        "none: it does not",
        json_schema_extra={"with": ["model.modality", "twins", "text.mode"]},
    )
    heads: int = Field(
        4,
        ge=1,
        description="attention heads of cross_attention",
        json_schema_extra={"with": ["model.fusion"]},
    )
    paper_width: int = Field(
        8,
        ge=1,
        description="width of the text vector in gate_paper; published: 8 with SchNet, 16 with DimeNet++, "
        "32 with the others",
        json_schema_extra={"with": ["model.fusion", "model.backbone"]},
    )
    context: bool = Field(
        False,
        description="read the numeric text fields as numbers too, standardised on the training part",
        json_schema_extra={"with": ["model.modality", "model.fusion"]},
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the channels that training drops in fusion and read-out",
        json_schema_extra={"with": ["train.dropout"]},
    )
    readout: dict[str, ReadOutName] = Field(
        {},
        description="read-out of single targets, instead of the default for their physical kind; "
        "dipole_vectors needs a backbone with vectors; dipole_norm has no mean, is never negative, and reads "
        "vectors where the backbone has them",
        json_schema_extra={"with": ["targets", "model.fusion", "model.backbone", "model.dipoles"]},
    )
    dipoles: Annotated[Literal["norm", "with_mean"], MeantBefore("with_mean")] = Field(
        "norm",
        description="read-out of the dipoles that model.readout does not name; norm: dipole_norm; with_mean: "
        "dipole, which adds a mean and may be negative, as in earlier versions",
        json_schema_extra={"with": ["model.readout", "targets"]},
    )

    def wanted_readout(self, target: str, kind: str) -> str | None:
        """Read-out that the recipe wants for a target of some kind; None for the default of the kind."""
        if kind == "dipole" and (self.dipoles == "with_mean" or self.fusion == "gate_paper"):
            return self.readout.get(target, "dipole")
        return self.readout.get(target)

    @property
    def reads_graph(self) -> bool:
        """Whether the modality reads the graph; if not, a learned constant stands in."""
        return self.modality != "text"

    @property
    def reads_text(self) -> bool:
        """Whether the modality reads text and physical context; if not, learned constants stand in."""
        return self.modality in ("text", "both")
