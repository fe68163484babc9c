"""Forward pass of packed tokens through an encoder, without padding.

Linear layers, norms and embeddings read the packed tokens [1, K] directly. Only attention must separate the
molecules: queries, keys and values are padded to [b, heads, L, d], in groups of similar length, and the
output is packed again. For short texts attention is a few per cent of the work, so its padding costs very
little; a block-diagonal mask over all K tokens is twice as slow as padding all layers.

Decoders of language models are causal: a token sees itself and those before it, in some layers only those
within a window. Padding stands behind a text, where no token looks, so that causal attention needs no mask.
Positions begin anew in every text, as in a padded forward pass; padding on the left, as some tokenizers have
it, shifts all positions of a text alike, which rotary embeddings (Su et al. 2021, arXiv 2104.09864) ignore.

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
PACKED = frozenset(
    {
        *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"),
        *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
    }
)
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
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of packed tokens within their molecules, with the interface of transformers.

    Args:
        module: the calling attention layer; its `is_causal` says whether tokens see those behind them.
        query: queries [1, heads, K, d].
        key: keys [1, heads / g, K, d]; each serves g heads of the queries.
        value: values [1, heads / g, K, d].
        attention_mask: None; the layout separates the molecules.
        layout: padding of the tokens by molecule.
        dropout: fraction of the attention weights that is dropped.
        scaling: factor of the scores; None for 1 / sqrt(d).
        sliding_window: tokens see those fewer than so many positions away; None: all.
        softcap: bound c of the scores s, which become c tanh(s / c) (Gemma 2, arXiv 2408.00118); None: none.

    Returns:
        Output [1, K, heads, d], and None in place of the weights.
    """
    heads, width, shared = query.shape[1], query.shape[3], query.shape[1] // key.shape[1]
    causal = bool(getattr(module, "is_causal", False))
    flat = [x[0].transpose(0, 1) for x in (query, key, value)]
    parts = []
    for group in layout.groups:
        size, longest = group.valid.shape
        q, k, v = (
            x.index_select(0, group.index).view(size, longest, -1, width).transpose(1, 2) for x in flat
        )
        if shared > 1:
            k, v = (x.repeat_interleave(shared, dim=1) for x in (k, v))
        mask = _visible(group, causal, sliding_window, explicit=softcap is not None)
        if softcap is not None:
            out = _capped(q, k, v, mask, scaling, softcap, dropout)
        else:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling, is_causal=causal and mask is None
            )
        parts.append(out.transpose(1, 2).reshape(size * longest, heads * width))
    packed = torch.cat(parts).index_select(0, layout.back)
    return packed.view(1, -1, heads, width), None


def _visible(group: Group, causal: bool, window: int | None, explicit: bool) -> Tensor | None:
    """Which tokens see which, bool [b or 1, 1, L or 1, L]; None where all, or all before them, are seen.

    Args:
        group: the molecules, with padding behind their texts.
        causal: whether a token sees only itself and those before it.
        window: tokens see those fewer than so many positions away; None: all.
        explicit: whether causal attention needs its mask too.
    """
    longest = group.valid.shape[1]
    near = window if window is not None and window < longest else None
    mask = None if group.full or causal else group.valid[:, None, None]
    if near is None and not (causal and explicit):
        return mask
    place = torch.arange(longest, device=group.valid.device)
    back = place.unsqueeze(-1) - place  # how far before each token (row) the others stand
    seen = back >= 0 if causal else torch.ones_like(back, dtype=torch.bool)
    if near is not None:
        seen = seen & (back.abs() < near)
    # behind a text nothing is seen but itself: a row without anything to see would be no number
    return seen[None, None] if mask is None else (mask & seen) | (back == 0)


def _capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float,
    dropout: float,
) -> Tensor:
    """Attention with bounded scores; shapes [b, heads, L, d]."""
    scores = query @ key.transpose(2, 3) * (query.shape[3] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return F.dropout(weights, dropout, training=dropout > 0) @ value
