"""Packed tokens through an encoder without padding.

Linear layers, norms and embeddings see the packed tokens [1, K] as they are. Attention alone needs the
molecules apart: queries, keys and values are spread into a padded [b, heads, L, d] for it, in groups of like
length, and its output is packed again. For short texts attention is a few per cent of the work, so its
padding costs next to nothing; a block-diagonal mask over all K tokens is twice as slow as padding all layers.

Other architectures (relative positions as in T5 and DeBERTa; CLIP, which counts the whole pack as one text)
take padded passes instead, one for each bucket of molecules of like length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# positions are an input, attention is looked up by name; each is tested against its own padded forward
PACKED = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"})
ATTENTION = "mmgnn_packed"
BUCKET = 16  # molecules of a padded pass: below that, one more pass costs more than the padding it saves
SPREAD = 4  # longest over shortest text of a group in packed attention


@dataclass
class Group:
    """Molecules that are padded to the same length L.

    Attributes:
        index: packed place of each padded place, int64 [b * L]; any place where there is no token.
        valid: where there is a token, bool [b, L].
        full: whether there is one everywhere.
    """

    index: Tensor
    valid: Tensor
    full: bool


@dataclass
class Layout:
    """How packed tokens are padded and packed again.

    Attributes:
        groups: in the order in which their padded places are joined.
        back: place of each packed token among the joined padded places, int64 [K].
    """

    groups: list[Group]
    back: Tensor


def token_positions(ptr: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Molecule and position of each packed token, int64 [K] both; `count` is K."""
    order = torch.arange(len(ptr) - 1, device=ptr.device)
    molecule = torch.repeat_interleave(order, ptr[1:] - ptr[:-1], output_size=count)
    return molecule, torch.arange(count, device=ptr.device) - ptr[molecule]


def passes(lengths: Tensor) -> list[int]:
    """Sizes of the padded passes over molecules of ascending `lengths` [M]: about `BUCKET` each."""
    return [len(part) for part in torch.tensor_split(lengths, max(1, len(lengths) // BUCKET))]


def spans(lengths: Tensor) -> list[int]:
    """Sizes of the groups for packed attention: as large as `SPREAD` allows, ascending `lengths` [M]."""
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
        packed: groups for packed attention; else those of padded passes.
        one_pass: a single padded pass, whatever the lengths.
    """
    bounds = ptr.cpu()  # planned on the host in one go: lengths decide shapes
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
    """Let a model attend by `Layout` if its architecture allows it; returns whether it does."""
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
    """Attention of packed tokens within their molecules, in the form that transformers calls.

    Args:
        module: the attention layer that calls; not read.
        query: [1, heads, K, d].
        key: [1, heads, K, d].
        value: [1, heads, K, d].
        attention_mask: None: the layout says which tokens belong together.
        layout: which tokens belong together.
        dropout: share of the attention weights that is dropped.
        scaling: factor of the scores; None: 1 / sqrt(d).

    Returns:
        [1, K, heads, d], and no weights.
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
