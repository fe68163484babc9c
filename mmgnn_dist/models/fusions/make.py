"""The fusion that a recipe names."""

from __future__ import annotations

from mmgnn_dist.config import ModelConfig
from mmgnn_dist.models.fusions.base import ConcatFusion, FilmFusion, Fusion, GateFusion, NoFusion
from mmgnn_dist.models.fusions.cross_attention import CrossAttentionFusion
from mmgnn_dist.models.fusions.paper_gate import PaperGate


def make_fusion(config: ModelConfig, width: int, dropout: float) -> Fusion:
    """The fusion that a recipe names, on atom vectors of `width`."""
    match config.fusion:
        case "cross_attention":
            return CrossAttentionFusion(width, dropout, config.heads)
        case "gate_paper":
            return PaperGate(width, config.paper_width, dropout)
        case "gate":
            return GateFusion(width, dropout)
        case "concat":
            return ConcatFusion(width, dropout)
        case "film":
            return FilmFusion(width, dropout)
        case "none":
            return NoFusion(width, dropout)
