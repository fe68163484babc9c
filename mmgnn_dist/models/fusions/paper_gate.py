"""The gate of arXiv 2505.12137 as published: after pooling, on one vector per molecule.

The released code sums the atom vectors to m [B, H] and projects the text embedding e [B, D] to c channels:

    t = W_2 relu(W_1 e + b_1) + b_2                       D -> H -> c
    g = sigmoid(W_g [m; t] + b_g)
    f = g * (W_m m + b_m) + (1 - g) * (W_t t + b_t),      y = W f + b

with c = 8 for SchNet, 16 for DimeNet++ and 32 for Equiformer and FAENet. Nothing is normalised: m grows with
the molecule and t does not. This is a flaw of the method, kept here to measure it. One linear map reads every
target from f, extensive targets included: their growth with the molecule comes from m and, as in all models
here, from the atom references of the scaled targets. The published graph model has another head; the
graph-only twin here is the same model, read-out included, with a learned constant for t.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmgnn_dist.config import ModelConfig
from mmgnn_dist.models.fusions.base import Fusion, TextSide
from mmgnn_dist.models.graph import Graph


class PaperGate(Fusion):
    """Published gate: ([B, H], [B, c]) -> fused vectors [B, H] and the mean gate over channels [B].

    Args:
        width: H, the width of the atom vectors.
        text_width: c, the number of text channels.
        dropout: dropout of the fused vectors; the published form has none.
    """

    pooled = True

    @classmethod
    def build(cls, config: ModelConfig, width: int, dropout: float) -> PaperGate:
        """Build the fusion of a recipe, see `Fusion.build`."""
        return cls(width, config.paper_width, dropout)

    def __init__(self, width: int, text_width: int, dropout: float) -> None:
        super().__init__()
        self.text_width = text_width
        self.gate = nn.Linear(width + text_width, width)
        self.value_graph, self.value_text = nn.Linear(width, width), nn.Linear(text_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, atoms: Tensor, text: TextSide, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Fuse pooled vectors by the formula of the module docstring."""
        gate = torch.sigmoid(self.gate(torch.cat([atoms, text.vector], dim=-1)))
        fused = gate * self.value_graph(atoms) + (1.0 - gate) * self.value_text(text.vector)
        return self.dropout(fused), gate.mean(-1)


def paper_projection(embedding: int, width: int, text_width: int) -> nn.Module:
    """Projection of the text embedding to t: D -> H -> c, the first formula of the module docstring."""
    return nn.Sequential(nn.Linear(embedding, width), nn.ReLU(), nn.Linear(width, text_width))


class PaperReadOut(nn.Module):
    """Read-out by one linear map: fused vectors [B, H] -> scaled targets [B, T]."""

    def __init__(self, width: int, targets: int) -> None:
        super().__init__()
        self.contribution = nn.Linear(width, targets)
        nn.init.zeros_(self.contribution.weight)  # start at the prediction of references and means
        nn.init.zeros_(self.contribution.bias)

    def forward(self, fused: Tensor, graph: Graph, vectors: Tensor | None = None) -> Tensor:
        """Return scaled targets [B, T]; the signature is that of `ReadOut`, but only `fused` is read."""
        return self.contribution(fused)
