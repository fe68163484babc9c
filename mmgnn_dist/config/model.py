"""The fused model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmgnn_dist.config.backbones import SchNetConfig
from mmgnn_dist.config.choices import Backbone, Fusion
from mmgnn_dist.config.section import ConfigSection

Modality = Literal["graph", "text", "both", "width_matched"]
ReadOutName = Literal["sum", "mean", "attention", "dipole", "dipole_vectors", "r2"]


class ModelConfig(ConfigSection):
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
