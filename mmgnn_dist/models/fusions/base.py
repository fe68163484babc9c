"""Fusion: atom vectors and the text side of their molecule -> fused atom vectors.

Shapes: `N` atoms, `B` molecules, `K` tokens, `H` width. All fusions have one interface and differ only in
their formula. m and t are the layer-normalised vectors of an atom and of its molecule's text side:

    gate             f = g * P_m m + (1 - g) * P_t t,  g = sigmoid(W [m; t] + b)     (arXiv 2505.12137)
    concat           f = W [m; t] + b
    film             f = (1 + S t) * P_m m + B t                      (Perez et al. 2018, arXiv 1709.07871)
    cross_attention  f = P_m m + attention of m to the molecule's tokens        (`cross_attention`)
    none             f = m
    gate_paper       the gate after pooling, without normalisation                  (`paper_gate`)

The published gate acts after pooling: there m, a sum over atoms, grows with the molecule and t does not, so
the gate mostly reads the size. All other fusions act on every atom and on normalised inputs.
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
    """Text side of a batch, as a fusion reads it.

    Attributes:
        vector: one vector per molecule [B, W]; W is the fusion's `text_width`.
        tokens: packed tokens [K, W]; None for a fusion that reads no tokens, or if no text is read.
        ptr: molecule b has the tokens `ptr[b]:ptr[b + 1]`, int64 [B + 1]; None without tokens.
    """

    vector: Tensor
    tokens: Tensor | None = None
    ptr: Tensor | None = None


class Fusion(nn.Module, ABC):
    """Base class of a fusion: atom vectors [N, H] and the text side -> fused vectors [N, H] and a gate [N].

    The gate is 1 if only the graph is read and 0 if only the text side is read; a fusion may have no gate.

    Attributes:
        text_width: W, the width of the text side's vectors; 0 for a fusion that does not read the text side.
        reads_tokens: whether the fusion reads tokens; the vector of the text side then does not depend on
            the text.
        pooled: whether the fusion acts on one vector per molecule, [B, H] and [B], instead of one per atom.
    """

    text_width: int
    reads_tokens: bool = False
    pooled: bool = False

    @classmethod
    def build(cls, config: ModelConfig, width: int, dropout: float) -> Fusion:
        """Build the fusion of a recipe; a fusion that reads more keys of the section overrides this method.

        Args:
            config: section `model` of the recipe.
            width: H, the width of the atom vectors.
            dropout: dropout of the fused vectors.
        """
        return cls(width, dropout)

    @abstractmethod
    def forward(self, atoms: Tensor, text: TextSide, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Fuse atom vectors and the text side.

        Args:
            atoms: atom vectors [N, H].
            text: the text side.
            graph: the batch.

        Returns:
            Fused vectors [N, H]; gate [N], None for a fusion without a gate. A pooled fusion takes and
            returns one vector and one gate value per molecule.
        """


class NoFusion(Fusion):
    """No fusion: normalised atom vectors; the text side is not read."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.text_width = 0
        self.norm_graph = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, atoms: Tensor, text: TextSide, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Normalise the atom vectors."""
        return self.dropout(self.norm_graph(atoms)), None


class VectorFusion(Fusion):
    """Base class of fusions of normalised atom vectors with the normalised vector of their molecule.

    Terms that depend only on t are computed once per molecule and then expanded to its atoms.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.text_width = width
        self.norm_graph, self.norm_text = nn.LayerNorm(width), nn.LayerNorm(width)
        self.value_graph, self.value_text = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, atoms: Tensor, text: TextSide, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Normalise both inputs, fuse them and apply dropout."""
        fused, gate = self.fuse(self.norm_graph(atoms), self.norm_text(text.vector), graph.molecule)
        return self.dropout(fused), gate

    @abstractmethod
    def fuse(self, m: Tensor, t: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """Apply the formula to m [N, H] and t [B, H]; `molecule` is the molecule of each atom, int64 [N]."""


class GateFusion(VectorFusion):
    """Gated sum; the returned gate is the mean over channels."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, dropout)
        # W [m; t] + b in two parts
        self.gate_graph, self.gate_text = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def fuse(self, m: Tensor, t: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """Apply the formula of the module docstring."""
        gate = torch.sigmoid(self.gate_graph(m) + self.gate_text(t)[molecule])
        fused = gate * self.value_graph(m) + (1.0 - gate) * self.value_text(t)[molecule]
        return fused, gate.mean(-1)


class ConcatFusion(VectorFusion):
    """Linear map of the concatenated vectors: W [m; t] + b = (W_m m + b_m) + (W_t t + b_t)."""

    def fuse(self, m: Tensor, t: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """Apply the formula of the module docstring."""
        return self.value_graph(m) + self.value_text(t)[molecule], None


class FilmFusion(VectorFusion):
    """Feature-wise scale and shift of the atom vectors by the text side; the scale starts near 1."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, dropout)
        self.scale = nn.Linear(width, width)

    def fuse(self, m: Tensor, t: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor | None]:
        """Apply the formula of the module docstring."""
        return (1.0 + self.scale(t))[molecule] * self.value_graph(m) + self.value_text(t)[molecule], None
