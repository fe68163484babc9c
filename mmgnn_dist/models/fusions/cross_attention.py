"""Cross-attention: atoms attend to the tokens of their own molecule.

Vaswani et al. 2017 (arXiv 1706.03762), h heads: with normalised atom vectors m and token vectors t

    f_i = P_m m_i + W_o concat_h( sum_j softmax_j(q_i . k_j / sqrt(d)) v_j )
    q = W_q m + b_q,   k = W_k t + b_k,   v = W_v t + b_v

over the tokens j of the molecule of atom i and one more key: the vector of the text side, a learned constant
(joined with the physical context, if it is read). A molecule without text attends only to this vector.

Atoms and tokens are packed. For the product of queries and keys they are padded to the longest molecule of
the batch: molecules of a batch have similar lengths, and the alternative, a list of all atom-token pairs,
copies a vector of width H for each pair.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgnn_dist.config import ModelConfig
from mmgnn_dist.models.fusions.base import Fusion, TextSide
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.text_encoder.packing import token_positions


class CrossAttentionFusion(Fusion):
    """Cross-attention of atoms to tokens, added to the atom vectors; it has no gate.

    Args:
        width: H, the width of the atom vectors.
        dropout: dropout of the fused vectors.
        heads: number of heads; each has H / heads channels, rounded down, so any number fits any width.
    """

    reads_tokens = True

    @classmethod
    def build(cls, config: ModelConfig, width: int, dropout: float) -> CrossAttentionFusion:
        """Build the fusion of a recipe, see `Fusion.build`."""
        return cls(width, dropout, config.heads)

    def __init__(self, width: int, dropout: float, heads: int) -> None:
        super().__init__()
        self.text_width, self.heads = width, heads
        inner = heads * max(1, width // heads)
        self.norm_graph, self.norm_text = nn.LayerNorm(width), nn.LayerNorm(width)
        self.value_graph = nn.Linear(width, width)
        self.query, self.key = nn.Linear(width, inner), nn.Linear(width, inner)
        self.value, self.output = nn.Linear(width, inner), nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, atoms: Tensor, text: TextSide, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Apply the formula of the module docstring."""
        m = self.norm_graph(atoms)
        rows, _ = _dense(graph.ptr)
        queries = self._split(self.query(m)[rows.clamp(max=len(m) - 1)])
        # keys: the vector of each molecule, then its tokens; `key_rows` are their rows in t
        size = len(text.vector)
        t, key_rows = text.vector, torch.arange(size, device=graph.ptr.device).unsqueeze(-1)
        mask = torch.ones_like(key_rows, dtype=torch.bool)
        if text.tokens is not None:
            assert text.ptr is not None
            t = torch.cat([t, text.tokens])
            token_rows, is_token = _dense(text.ptr)
            key_rows = torch.cat([key_rows, (token_rows + size).clamp(max=len(t) - 1)], dim=1)
            mask = torch.cat([mask, is_token], dim=1)
        t = self.norm_text(t)
        keys, values = self._split(self.key(t)[key_rows]), self._split(self.value(t)[key_rows])
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask[:, None, None, :])
        packed = attended.transpose(1, 2).flatten(2)[token_positions(graph.ptr, len(m))]
        return self.dropout(self.value_graph(m) + self.output(packed)), None

    def _split(self, x: Tensor) -> Tensor:
        """Split the heads: [B, L, heads * d] -> [B, heads, L, d]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _dense(ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Pad packed rows to the longest molecule: the row of each position and a validity mask, both [B, L]."""
    counts = ptr[1:] - ptr[:-1]
    column = torch.arange(int(counts.max()), device=ptr.device)
    return ptr[:-1].unsqueeze(-1) + column, column < counts.unsqueeze(-1)
