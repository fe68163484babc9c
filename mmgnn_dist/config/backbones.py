"""The backbones and their settings; each default is the reference setting of its own paper."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mmgnn_dist.config.backbone_base import BackboneConfig

ELEMENT_PROPERTIES = 14  # tabulated properties of an element, models/element_properties.csv


class SchNetConfig(BackboneConfig):
    """SchNet, Schütt et al. 2017 (arXiv 1706.08566)."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.schnet:SchNet"
    cost_rate: ClassVar[float] = 0.45
    widths: ClassVar[tuple[str, ...]] = ("hidden", "filters")

    name: Literal["schnet"] = "schnet"
    hidden: int = Field(128, ge=1)
    filters: int = Field(128, ge=1)
    interactions: int = Field(6, ge=1)
    gaussians: int = Field(50, ge=2)
    cutoff: float = Field(10.0, gt=0, description="Å")


class PaiNNConfig(BackboneConfig):
    """PaiNN, Schütt, Unke, Gastegger 2021 (arXiv 2102.03150)."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.painn:PaiNN"
    cost_rate: ClassVar[float] = 0.3
    widths: ClassVar[tuple[str, ...]] = ("hidden",)
    has_vectors: ClassVar[bool] = True

    name: Literal["painn"] = "painn"
    hidden: int = Field(128, ge=1, description="channels of scalars and of vectors")
    interactions: int = Field(3, ge=1)
    basis: Literal["bessel", "gaussian"] = "bessel"
    radial: int = Field(20, ge=2, description="functions of the radial basis")
    cutoff: float = Field(5.0, gt=0, description="Å")


class DimeNetPPConfig(BackboneConfig):
    """DimeNet++, Gasteiger et al. 2020 (arXiv 2011.14115)."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.dimenetpp:DimeNetPP"
    cost_rate: ClassVar[float] = 0.4
    widths: ClassVar[tuple[str, ...]] = ("hidden", "triplet", "basis", "output")

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


class EquiformerConfig(BackboneConfig):
    """Equiformer, Liao and Smidt 2022 (arXiv 2206.11990); lists of three are channels of degree 0, 1, 2."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.equiformer:Equiformer"
    cost_rate: ClassVar[float] = 0.55
    widths: ClassVar[tuple[str, ...]] = ("hidden", "head", "mlp", "features")
    has_vectors: ClassVar[bool] = True
    dropouts: ClassVar[tuple[str, ...]] = ("attention_dropout",)

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


class FAENetConfig(BackboneConfig):
    """FAENet, Duval et al. 2023 (arXiv 2305.05577)."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.faenet:FAENet"
    cost_rate: ClassVar[float] = 0.8
    widths: ClassVar[tuple[str, ...]] = ("hidden", "filters")

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
        taken = ELEMENT_PROPERTIES * self.properties + 2 * self.period_group
        if taken >= self.hidden:
            raise ValueError(
                f"model.backbone.hidden={self.hidden}: properties and period_group take {taken} of it, "
                f"the element's own embedding the rest: hidden must be above {taken}"
            )
        return self
