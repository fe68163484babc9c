"""Fusion: atom vectors and the text side of their molecule -> fused atom vectors.

Shapes: `N` atoms, `B` molecules, `K` tokens, `H` width. All fusions have one interface and differ in nothing
but their formula; m and t are the layer-normalised vectors of an atom and of its molecule's text side:

    gate             f = g * P_m m + (1 - g) * P_t t,  g = sigmoid(W [m; t] + b)     (arXiv 2505.12137)
    concat           f = W [m; t] + b
    film             f = (1 + S t) * P_m m + B t                      (Perez et al. 2018, arXiv 1709.07871)
    cross_attention  f = P_m m + attention of m to the molecule's tokens        (`cross_attention`)
    none             f = m
    gate_paper       the gate after pooling, without normalisation                  (`paper_gate`)

The published gate acts after pooling, where the sum over atoms makes m grow with the molecule while t does
not, so that it mostly reads the size: all others work on every atom, and on normalised inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgnn_dist.config import ModelConfig
from mmgnn_dist.models.graph import Graph


@dataclass
class TextSide:
    """What a fusion reads beside the graph.

    Attributes:
        vector: [B, W], of each molecule; W is the fusion's `text_width`.
        tokens: [K, W], packed, only for a fusion that reads tokens, and None where no text is read.
        ptr: molecule b has the tokens `ptr[b]:ptr[b + 1]`, int64 [B + 1]; None without tokens.
    """

    vector: Tensor
    tokens: Tensor | None = None
    ptr: Tensor | None = None


class Fusion(nn.Module, ABC):
    """Atom vectors [N, H] and the text side -> fused vectors [N, H] and a gate, if there is one, [N].

    The gate is 1 where only the graph is read and 0 where only the text side is.

    Attributes:
        text_width: W, width of the text side's vectors; 0 for a fusion that does not read it.
        reads_tokens: whether the text side brings the tokens; its vector then says nothing of the text.
        pooled: whether it takes and gives one vector a molecule, [B, H] and [B], instead of one an atom.
    """

    text_width: int
    reads_tokens: bool = False
    pooled: bool = False

    @classmethod
    def build(cls, config: ModelConfig, width: int, dropout: float) -> Fusion:
        """The fusion that a recipe asks for; one that reads more keys of its section has a method of its own.

        Args:
            config: the section of the recipe that names it.
            width: H.
            dropout: of the fused vectors.
        """
        return cls(width, dropout)

    @abstractmethod
    def forward(self, atoms: Tensor, text: TextSide, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Fuse."""


class NoFusion(Fusion):
    """The graph alone: normalised atom vectors, whatever the text says."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.text_width = 0
        self.norm_graph = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, atoms: Tensor, text: TextSide, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Normalised atom vectors."""
        return self.dropout(self.norm_graph(atoms)), None


class VectorFusion(Fusion):
    """A fusion of normalised atom vectors with the normalised vector of their molecule.

    What acts on t alone is computed once a molecule and then handed to its atoms.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.text_width = width
        self.norm_graph, self.norm_text = nn.LayerNorm(width), nn.LayerNorm(width)
        self.value_graph, self.value_text = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, atoms: Tensor, text: TextSide, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Normalise, fuse, drop out."""
        fused, gate = self.fuse(self.norm_graph(atoms), self.norm_text(text.vector), graph.molecule)
        return self.dropout(fused), gate

    @abstractmethod
    def fuse(self, m: Tensor, t: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """The formula, on m [N, H] and t [B, H], with the molecule of each atom, int64 [N]."""


class GateFusion(VectorFusion):
    """Gated sum; the gate returned is the mean over channels."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, dropout)
        # W [m; t] + b in two parts
        self.gate_graph, self.gate_text = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def fuse(self, m: Tensor, t: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the module text."""
        gate = torch.sigmoid(self.gate_graph(m) + self.gate_text(t)[molecule])
        fused = gate * self.value_graph(m) + (1.0 - gate) * self.value_text(t)[molecule]
        return fused, gate.mean(-1)


class ConcatFusion(VectorFusion):
    """Linear map of both vectors side by side: W [m; t] + b = (W_m m + b_m) + (W_t t + b_t)."""

    def fuse(self, m: Tensor, t: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the module text."""
        return self.value_graph(m) + self.value_text(t)[molecule], None


class FilmFusion(VectorFusion):
    """Feature-wise scale and shift of the atoms by the text side; the scale starts around 1."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, dropout)
        self.scale = nn.Linear(width, width)

    def fuse(self, m: Tensor, t: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the module text."""
        return (1.0 + self.scale(t))[molecule] * self.value_graph(m) + self.value_text(t)[molecule], None
