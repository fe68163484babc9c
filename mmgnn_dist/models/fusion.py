"""Fusion: atom vectors and the text vector of their molecule -> fused atom vectors.

Shapes: `N` atoms, `B` molecules, `H` width. `GateFusion` is the gate of arXiv 2505.12137 on every atom:

    g = sigmoid(W [m; t] + b),    f = g * P_m m + (1 - g) * P_t t

with both inputs layer-normalised first. The published gate acts after pooling, where the sum over atoms
makes m grow with the molecule while t does not, so that the gate mostly reads the size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmgnn_dist.config import ModelConfig


class GateFusion(nn.Module):
    """Gated sum, ([N, H], [B, H]) -> [N, H] and the gate's mean over channels [N]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm_graph, self.norm_text = nn.LayerNorm(width), nn.LayerNorm(width)
        # W [m; t] + b in two parts, so that the text part is computed once a molecule
        self.gate_graph, self.gate_text = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value_graph, self.value_text = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, atoms: Tensor, text: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """Fuse.

        Args:
            atoms: [N, H]. text: [B, H]. molecule: the molecule of each atom, int64 [N].

        Returns:
            Fused atom vectors [N, H]; gate [N], 1 where only the graph is read, 0 where only the text.
        """
        m, t = self.norm_graph(atoms), self.norm_text(text)
        gate = torch.sigmoid(self.gate_graph(m) + self.gate_text(t)[molecule])
        fused = gate * self.value_graph(m) + (1.0 - gate) * self.value_text(t)[molecule]
        return self.dropout(fused), gate.mean(-1)


class NoFusion(nn.Module):
    """The graph alone: normalised atom vectors, whatever the text says."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm_graph = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, atoms: Tensor, text: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """Atom vectors [N, H] and no gate."""
        return self.dropout(self.norm_graph(atoms)), None


def make_fusion(config: ModelConfig, width: int, dropout: float) -> nn.Module:
    """The fusion that a recipe names."""
    kinds = {"gate": GateFusion, "none": NoFusion}
    return kinds[config.fusion](width, dropout)
