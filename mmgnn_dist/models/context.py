"""Physical context: numeric fields of PubChem as numbers -> one vector a molecule, and its way into a fusion.

The encoder reads [standardised values * mask; mask], so that an absent value is told from an average one.
Its statistics are those of the training part; they are buffers, so checkpoints and exports hold them and a
prediction needs no training data.

Context is text-side information: it comes from PubChem with the text. So it joins the text before the fusion,

    s = W [norm(t); norm(c)] + b

and every fusion reads s where it would read t: fusions then still differ in nothing but their own formula,
one gate value still weighs the graph against all that PubChem knows, and neither part drowns the other by
its scale. In modality `graph` context is not read: c is the learned vector of absent context, as for a
molecule none of whose fields is known. The control texts of `text.control` leave context as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmgnn_dist.data.loading.context import ContextScaler
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS


class ContextEncoder(nn.Module):
    """Raw context [B, C] and its mask -> vectors [B, W] and a presence flag [B].

    Args:
        scaler: statistics of the training part; None for a model whose weights are loaded afterwards.
        width: W.
    """

    mean: Tensor
    std: Tensor
    count: Tensor

    def __init__(self, scaler: ContextScaler | None, width: int) -> None:
        super().__init__()
        fields = len(CONTEXT_FIELDS)
        if scaler is None:
            scaler = ContextScaler(
                torch.zeros(fields), torch.ones(fields), torch.zeros(fields, dtype=torch.int64)
            )
        for name, value in vars(scaler).items():
            self.register_buffer(name, value.clone())
        hidden = max(width, 4 * fields)
        self.layers = nn.Sequential(nn.Linear(2 * fields, hidden), nn.SiLU(), nn.Linear(hidden, width))

    def forward(self, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode `Batch.context` [B, C] with `Batch.context_mask`; a field unknown in training is absent."""
        scaled, present = ContextScaler(self.mean, self.std, self.count)(context, mask)
        inputs = torch.cat([scaled, present.to(scaled.dtype)], dim=-1)
        return self.layers(inputs), present.any(-1)


class JoinContext(nn.Module):
    """Text vectors t and context vectors c [B, W] -> the text side's vectors s [B, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_text, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear = nn.Linear(2 * width, width)
        self.absent = nn.Parameter(torch.randn(width))

    def forward(self, text: Tensor, known: tuple[Tensor, Tensor] | None) -> Tensor:
        """Join.

        Args:
            text: [B, W].
            known: vectors [B, W] and presence [B] of the context, None where it is not read.
        """
        context = self.absent.expand_as(text)
        if known is not None:
            context = torch.where(known[1].unsqueeze(-1), known[0], context)
        return self.linear(torch.cat([self.norm_text(text), self.norm_context(context)], dim=-1))
