"""Forward pass of packed tokens through an encoder, without padding.

Linear layers, norms and embeddings read the packed tokens [1, K] directly. Only attention must separate the
molecules: queries, keys and values are padded to [b, heads, L, d], in groups of similar length, and the
output is packed again. For short texts attention is a few per cent of the work, so its padding costs very
little; a block-diagonal mask over all K tokens is twice as slow as padding all layers.

Other architectures (relative positions as in T5 and DeBERTa; CLIP, which would read the pack as one text) use
padded passes instead, one for each bucket of molecules of similar length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# architectures with positions as an input and attention by name; each is tested against its padded forward
PACKED = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"})
ATTENTION = "mmgnn_packed"
BUCKET = 16  # molecules per padded pass: with fewer, an extra pass costs more than the padding it saves
SPREAD = 4  # largest ratio of longest to shortest text of a group in packed attention


@dataclass
class Group:
    """Molecules that are padded to the same length L.

    Attributes:
        index: packed position of each padded position, int64 [b * L]; arbitrary for padding.
        valid: whether a padded position holds a token, bool [b, L].
        full: whether all positions hold tokens.
    """

    index: Tensor
    valid: Tensor
    full: bool


@dataclass
class Layout:
    """Plan of how packed tokens are padded and packed again.

    Attributes:
        groups: the groups, in the order in which their padded positions are concatenated.
        back: index of each packed token in the concatenated padded positions, int64 [K].
    """

    groups: list[Group]
    back: Tensor


def token_positions(ptr: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Molecule and position of each packed token, both int64 [K]; `count` is K."""
    order = torch.arange(len(ptr) - 1, device=ptr.device)
    molecule = torch.repeat_interleave(order, ptr[1:] - ptr[:-1], output_size=count)
    return molecule, torch.arange(count, device=ptr.device) - ptr[molecule]


def passes(lengths: Tensor) -> list[int]:
    """Sizes of the padded passes over molecules of ascending `lengths` [M]: about `BUCKET` each."""
    return [len(part) for part in torch.tensor_split(lengths, max(1, len(lengths) // BUCKET))]


def spans(lengths: Tensor) -> list[int]:
    """Sizes of the groups of packed attention, as large as `SPREAD` allows; `lengths` [M] ascend."""
    sizes: list[int] = []
    end = len(lengths)
    while end:
        first = int((lengths * SPREAD < lengths[end - 1]).sum())
        sizes.insert(0, end - first)
        end = first
    return sizes


def lay_out(ptr: Tensor, packed: bool, one_pass: bool = False) -> Layout:
    """Plan the padding of a batch.

    Args:
        ptr: int64 [B + 1] as in `TextEncoder.forward`, with at least one token.
        packed: whether to plan groups of packed attention; otherwise padded passes.
        one_pass: whether to plan a single padded pass, whatever the lengths.
    """
    bounds = ptr.cpu()  # planned on the host with one copy: lengths determine shapes
    count = int(bounds[-1])
    lengths = bounds[1:] - bounds[:-1]
    rows = torch.nonzero(lengths).squeeze(-1)
    rows = rows[torch.argsort(lengths[rows], stable=True)]
    start = torch.zeros_like(lengths)  # where the padded text of each molecule begins
    groups, done = [], 0
    sizes = [len(rows)] if one_pass and not packed else (spans if packed else passes)(lengths[rows])
    for group in rows.split(sizes):
        longest = int(lengths[group[-1]])
        column = torch.arange(longest)
        valid = column < lengths[group].unsqueeze(-1)
        index = (bounds[group].unsqueeze(-1) + column).clamp_(max=count - 1).flatten()
        full = int(lengths[group[0]]) == longest
        groups.append(Group(index.to(ptr.device), valid.to(ptr.device), full))
        start[group] = done + longest * torch.arange(len(group))
        done += valid.numel()
    molecule, position = token_positions(bounds, count)
    return Layout(groups, (start[molecule] + position).to(ptr.device))


def pack(model: Any) -> bool:
    """Switch a model to packed attention if its architecture allows it; return whether it does."""
    if model.config.model_type not in PACKED:
        return False
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
    model.set_attn_implementation(ATTENTION)
    return True


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    layout: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of packed tokens within their molecules, with the interface of transformers.

    Args:
        module: the calling attention layer; not read.
        query: queries [1, heads, K, d].
        key: keys [1, heads, K, d].
        value: values [1, heads, K, d].
        attention_mask: None; the layout separates the molecules.
        layout: padding of the tokens by molecule.
        dropout: fraction of the attention weights that is dropped.
        scaling: factor of the scores; None for 1 / sqrt(d).

    Returns:
        Output [1, K, heads, d], and None in place of the weights.
    """
    heads, width = query.shape[1], query.shape[3]
    flat = [x[0].transpose(0, 1).flatten(1) for x in (query, key, value)]
    parts = []
    for group in layout.groups:
        size, longest = group.valid.shape
        q, k, v = (
            x.index_select(0, group.index).view(size, longest, heads, width).transpose(1, 2) for x in flat
        )
        mask = None if group.full else group.valid[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling)
        parts.append(out.transpose(1, 2).reshape(size * longest, heads * width))
    packed = torch.cat(parts).index_select(0, layout.back)
    return packed.view(1, -1, heads, width), None
