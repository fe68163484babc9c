"""The settings of the backbones; each default is the reference setting of the backbone's paper."""

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
    reads_state: ClassVar[bool] = True

    name: Literal["schnet"] = Field(
        "schnet", description="which backbone reads the graph; its other keys depend on it"
    )
    hidden: int = Field(128, ge=1, description="width of the atom vectors")
    filters: int = Field(128, ge=1, description="width of the filters of the continuous convolution")
    interactions: int = Field(6, ge=1, description="interaction blocks, each a round of messages")
    gaussians: int = Field(
        50, ge=2, description="Gaussian functions of the distance, between 0 and the cutoff"
    )
    cutoff: float = Field(
        10.0, gt=0, description="atoms within this distance of each other are neighbours, in Å"
    )


class PaiNNConfig(BackboneConfig):
    """PaiNN, Schütt, Unke, Gastegger 2021 (arXiv 2102.03150)."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.painn:PaiNN"
    cost_rate: ClassVar[float] = 0.3
    widths: ClassVar[tuple[str, ...]] = ("hidden",)
    reads_state: ClassVar[bool] = True
    has_vectors: ClassVar[bool] = True

    name: Literal["painn"] = Field(
        "painn", description="which backbone reads the graph; its other keys depend on it"
    )
    hidden: int = Field(
        128, ge=1, description="channels of scalars and of vectors; width of the atom vectors"
    )
    interactions: int = Field(3, ge=1, description="message and update blocks")
    basis: Literal["bessel", "gaussian"] = Field(
        "bessel", description="radial basis: spherical Bessel functions of order 0, or Gaussians"
    )
    radial: int = Field(20, ge=2, description="functions of the radial basis, between 0 and the cutoff")
    cutoff: float = Field(
        5.0, gt=0, description="atoms within this distance of each other are neighbours, in Å"
    )


class DimeNetPPConfig(BackboneConfig):
    """DimeNet++, Gasteiger et al. 2020 (arXiv 2011.14115)."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.dimenetpp:DimeNetPP"
    cost_rate: ClassVar[float] = 0.4
    widths: ClassVar[tuple[str, ...]] = ("hidden", "triplet", "basis", "output")
    reads_state: ClassVar[bool] = True

    name: Literal["dimenetpp"] = Field(
        "dimenetpp", description="which backbone reads the graph; its other keys depend on it"
    )
    hidden: int = Field(128, ge=1, description="width of the messages on the edges")
    triplet: int = Field(64, ge=1, description="width of the messages in triplets")
    basis: int = Field(8, ge=1, description="width that both bases pass through")
    output: int = Field(256, ge=1, description="width of the atom vectors")
    blocks: int = Field(4, ge=1, description="interaction blocks; there is one more output block")
    radial: int = Field(6, ge=1, description="radial functions of the distance")
    spherical: int = Field(7, ge=1, le=12, description="angular functions of the angle in a triplet")
    cutoff: float = Field(
        5.0, gt=0, description="atoms within this distance of each other are neighbours, in Å"
    )


Envelope = Literal["none", "polynomial"]
Width = Annotated[int, Field(ge=1)]
Degrees = tuple[Width, Width, Width]  # channels of degree 0, 1 and 2


class EquiformerConfig(BackboneConfig):
    """Equiformer, Liao and Smidt 2022 (arXiv 2206.11990); lists of three are channels of degree 0, 1, 2."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.equiformer:Equiformer"
    cost_rate: ClassVar[float] = 0.55
    widths: ClassVar[tuple[str, ...]] = ("hidden", "head", "mlp", "features")
    reads_state: ClassVar[bool] = True
    has_vectors: ClassVar[bool] = True
    dropouts: ClassVar[tuple[str, ...]] = ("attention_dropout",)

    name: Literal["equiformer"] = Field(
        "equiformer", description="which backbone reads the graph; its other keys depend on it"
    )
    hidden: Degrees = Field((32, 16, 8), description="channels of the atom features of degree 0, 1, 2")
    layers: int = Field(4, ge=1, description="transformer blocks")
    heads: int = Field(2, ge=1, description="attention heads of a block")
    head: Degrees = Field((16, 8, 4), description="channels of one attention head, by degree")
    mlp: Degrees = Field((192, 96, 48), description="channels inside the feed-forward blocks, by degree")
    features: int = Field(256, ge=2, description="width of the atom vectors")
    messages: Literal["linear", "nonlinear"] = Field(
        "linear", description="nonlinear: messages pass a gate and a second tensor product"
    )
    gaussians: int = Field(128, ge=2, description="Gaussian functions of the distance")
    radial: tuple[Width, ...] = Field(
        (32, 32), min_length=1, description="widths of the hidden layers of the radial nets"
    )
    cutoff: float = Field(
        5.0, gt=0, description="atoms within this distance of each other are neighbours, in Å"
    )
    envelope: Envelope = Field(
        "none",
        description="factor on the messages near the cutoff; none: as published, the energy jumps there",
    )
    attention_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the attention weights that training drops",
        json_schema_extra={"with": ["train.dropout"]},
    )


class FAENetConfig(BackboneConfig):
    """FAENet, Duval et al. 2023 (arXiv 2305.05577)."""

    module: ClassVar[str] = "mmgnn_dist.models.backbones.faenet:FAENet"
    cost_rate: ClassVar[float] = 0.8
    widths: ClassVar[tuple[str, ...]] = ("hidden", "filters")
    reads_state: ClassVar[bool] = True

    name: Literal["faenet"] = Field(
        "faenet", description="which backbone reads the graph; its other keys depend on it"
    )
    hidden: int = Field(
        128,
        ge=1,
        description="width of the atom vectors",
        json_schema_extra={"with": ["model.backbone.properties", "model.backbone.period_group"]},
    )
    filters: int = Field(64, ge=2, description="width of the filters on the edges")
    interactions: int = Field(2, ge=1, description="interaction blocks, each a round of messages")
    gaussians: int = Field(
        20, ge=2, description="Gaussian functions of the distance, between 0 and the cutoff"
    )
    cutoff: float = Field(
        6.0, gt=0, description="atoms within this distance of each other are neighbours, in Å"
    )
    frames: Literal["full", "stochastic", "none"] = Field(
        "full",
        description="full: the mean over all frames; stochastic: one drawn frame in training, all when "
        "evaluated; none: positions as they are, not invariant to rotation",
    )
    properties: bool = Field(
        True, description="read tabulated properties of the elements in the embedding too"
    )
    period_group: int = Field(
        0, ge=0, description="width of each embedding of period and group; 0: no such embeddings"
    )
    skip: Literal["none", "concat"] = Field(
        "concat",
        description="concat: mix the atom vectors of all layers; none: use those of the last layer",
    )
    update_layers: Literal[1, 2] = Field(1, description="linear layers after the sum of messages")
    envelope: Envelope = Field(
        "none",
        description="factor on the messages near the cutoff; none: as published, the energy jumps there",
    )

    @model_validator(mode="after")
    def _room(self) -> FAENetConfig:
        taken = ELEMENT_PROPERTIES * self.properties + 2 * self.period_group
        if taken >= self.hidden:
            raise ValueError(
                f"model.backbone.hidden={self.hidden}: properties and period_group take {taken} of it, "
                f"the element's own embedding the rest: hidden must be above {taken}"
            )
        return self
