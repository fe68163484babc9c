"""Physical context: numeric fields of PubChem -> one vector per molecule, which joins the text vector.

The encoder reads [standardised values * mask; mask], which distinguishes an absent value from an average one.
Its statistics come from the training part. They are buffers, so checkpoints and exports contain them and a
prediction needs no training data.

Context belongs to the text side: it comes from PubChem with the text. It joins the text before the fusion,

    s = W [norm(t); norm(c)] + b

and every fusion reads s in place of t. Fusions therefore still differ only in their formula, one gate value
still weighs the graph against all information from PubChem, and the scale of neither part dominates the
other. In modality `graph` context is not read: c is the learned vector of absent context, as for a molecule
without any known field. The control texts of `text.control` do not change the context.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmgnn_dist.data.loading.context import ContextScaler
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS


class ContextEncoder(nn.Module):
    """Encoder of the context: raw values [B, C] and their mask -> vectors [B, W] and presence flags [B].

    Args:
        scaler: statistics of the training part; None if the weights of the model are loaded afterwards.
        width: W, the width of the vectors.
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
        """Encode `Batch.context` [B, C] with `Batch.context_mask`; fields unseen in training are absent."""
        scaled, present = ContextScaler(self.mean, self.std, self.count)(context, mask)
        inputs = torch.cat([scaled, present.to(scaled.dtype)], dim=-1)
        return self.layers(inputs), present.any(-1)


class JoinContext(nn.Module):
    """Join text vectors t and context vectors c [B, W] to the vectors s [B, W] of the text side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_text, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear = nn.Linear(2 * width, width)
        self.absent = nn.Parameter(torch.randn(width))

    def forward(self, text: Tensor, known: tuple[Tensor, Tensor] | None) -> Tensor:
        """Join text and context.

        Args:
            text: text vectors [B, W].
            known: vectors [B, W] and presence flags [B] of the context; None if context is not read.
        """
        context = self.absent.expand_as(text)
        if known is not None:
            context = torch.where(known[1].unsqueeze(-1), known[0], context)
        return self.linear(torch.cat([self.norm_text(text), self.norm_context(context)], dim=-1))
