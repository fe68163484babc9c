"""Text encoder: tokens -> a state each and one vector a molecule, by any Hugging Face encoder.

Modes: `full` trains every weight, `lora` trains low-rank adapters (Hu et al. 2021, arXiv 2106.09685)
beside frozen weights, `frozen` trains none (its vectors come from the sidecar, see `embeddings.py`).

Shapes: `B` molecules, `K` packed tokens, `D` width of the encoder.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.encoder_files import EncoderFiles
from mmgnn_dist.errors import UserError

# query and value projections under the names that the common architectures give them
LORA_TARGETS = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("q", "v"))
BUCKET = 16  # molecules: below that, one more pass costs more than the padding it saves


def load_encoder(files: EncoderFiles) -> Any:
    """Load an encoder's weights (safetensors only) in float32, without its pooler.

    Raises:
        UserError: if the folder holds no model that transformers can read.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(
            files.folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            dtype=torch.float32,
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"no text encoder can be read from {files.folder}: {str(error).splitlines()[0]}"
        ) from None
    if getattr(model, "decoder", None) is not None:
        model = model.get_encoder()
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # never read here: its weights would have no gradient
    return model


def lora_targets(model: nn.Module) -> list[str]:
    """The modules that adapters go beside, found by the architecture's names.

    Raises:
        UserError: for an architecture with other names.
    """
    names = {
        name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    for pair in LORA_TARGETS:
        if names.issuperset(pair):
            return list(pair)
    raise UserError(
        f"text.mode=lora finds no query and value layers in {type(model).__name__} "
        f"(its linear layers: {', '.join(sorted(names))}): use text.mode=full or frozen"
    )


class TextEncoder(nn.Module):
    """A language model with pooling: packed tokens -> states [K, D] -> vectors [B, D] and a presence flag.

    Args:
        files: where the weights are.
        config: mode, pooling, rank of the adapters.
        blank: an empty text, for a batch in which no molecule has one.
        dropout: False turns the encoder's own dropout off in training too.
        autocast: compute in this type (parameters stay float32), None for float32.
    """

    def __init__(
        self,
        files: EncoderFiles,
        config: TextConfig,
        blank: tuple[int, ...],
        dropout: bool = True,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config, self.dropout, self.blank, self.autocast = config, dropout, blank, autocast
        model = load_encoder(files)
        self.width: int = model.config.hidden_size
        if config.mode == "lora":
            from peft import LoraConfig, get_peft_model

            lora = LoraConfig(
                r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules=lora_targets(model)
            )
            model = get_peft_model(model, lora)
        elif config.mode == "frozen":
            model.requires_grad_(False)
        self.model = model

    def train(self, mode: bool = True) -> TextEncoder:
        """Training mode, with dropout only if it is wanted and something trains."""
        super().train(mode and self.dropout and self.config.mode != "frozen")
        return self

    def forward(self, tokens: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and pool.

        Args:
            tokens: int64 [K], the texts of the batch one after another, special tokens included.
            ptr: int64 [B + 1]; molecule b has `tokens[ptr[b]:ptr[b + 1]]`, none if it has no text.

        Returns:
            Vectors [B, D], zero where there is no text; presence, bool [B].
        """
        return self.pool(self.states(tokens, ptr), ptr)

    def states(self, tokens: Tensor, ptr: Tensor) -> Tensor:
        """The encoder's last hidden states of the packed tokens, in their order.

        Molecules of like length share a pass, so that few places are padding.

        Args:
            tokens, ptr: as in `forward`.

        Returns:
            float32 [K, D]. Without any text [0, D], still a function of every parameter: the encoder reads
            the blank text, so that every rank has gradients for the same parameters.
        """
        lengths = ptr[1:] - ptr[:-1]
        rows = torch.nonzero(lengths).squeeze(-1)
        if not len(rows):
            blank = torch.tensor([self.blank], device=ptr.device)
            return self._encode(blank, torch.ones_like(blank))[0, :0]
        rows = rows[torch.argsort(lengths[rows], stable=True)]
        start = torch.zeros_like(lengths)  # where the padded text of each molecule begins in `parts`
        parts, done = [], 0
        with self._cast(tokens.device):  # one context for all buckets: weights are cast once
            for bucket in torch.tensor_split(rows, max(1, len(rows) // BUCKET)):
                longest = int(lengths[bucket[-1]])
                column = torch.arange(longest, device=ptr.device)
                mask = column < lengths[bucket].unsqueeze(-1)
                index = (ptr[bucket].unsqueeze(-1) + column).clamp_(max=len(tokens) - 1)
                padded = torch.where(mask, tokens[index].long(), 0)
                parts.append(self._encode(padded, mask.long()).flatten(0, 1))
                start[bucket] = done + longest * torch.arange(len(bucket), device=ptr.device)
                done += len(parts[-1])
        molecule, position = places(ptr, len(tokens))
        return torch.cat(parts).index_select(0, start[molecule] + position)

    def pool(self, states: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """One vector a molecule: the mean of its states, or the first of them.

        Args:
            states: float32 [K, D]. ptr: as in `forward`.

        Returns:
            Vectors [B, D], zero where there is no text; presence, bool [B].
        """
        lengths = ptr[1:] - ptr[:-1]
        molecule, position = places(ptr, len(states))
        weight = 1.0 / lengths[molecule] if self.config.pooling == "mean" else (position == 0).float()
        out = states.new_zeros(len(lengths), states.shape[-1])
        return out.index_add(0, molecule, states * weight.unsqueeze(-1)), lengths > 0

    def _cast(self, device: torch.device) -> Any:
        """Context in which the encoder computes in its type."""
        return torch.autocast(device.type, dtype=self.autocast) if self.autocast else nullcontext()

    def _encode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Padded tokens and mask [b, L] -> last hidden states, float32 [b, L, D]."""
        return self.model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()


def places(ptr: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Molecule and position of each packed token, int64 [K] both; `count` is K."""
    order = torch.arange(len(ptr) - 1, device=ptr.device)
    molecule = torch.repeat_interleave(order, ptr[1:] - ptr[:-1], output_size=count)
    return molecule, torch.arange(count, device=ptr.device) - ptr[molecule]
