"""Text encoder: tokens -> one state per token and one vector per molecule, by any Hugging Face encoder.

Modes: `full` trains every weight, `lora` trains low-rank adapters (Hu et al. 2021, arXiv 2106.09685) on top
of frozen weights, `frozen` trains none (its vectors are stored once, see `frozen_cache.py`).

Shapes: `B` molecules, `K` packed tokens, `D` width of the encoder.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.models.text_encoder.hf_model import (
    checkpoint_layers,
    depths,
    load_encoder,
    load_projection,
    lora_targets,
)
from mmgnn_dist.models.text_encoder.packing import lay_out, pack, token_positions
from mmgnn_dist.models.zero3 import is_sharded


class TextEncoder(nn.Module):
    """A language model with pooling: packed tokens -> states [K, D] -> vectors [B, D] and presence flags.

    Args:
        files: files of the encoder.
        config: mode, pooling, rank of the adapters, checkpointing.
        blank: tokens of an empty text, for a batch without any text.
        dropout: False turns off the dropout of the encoder in training too.
        autocast: type in which the encoder computes (trained weights stay float32), None for float32.
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
        model = load_encoder(files, torch.bfloat16 if config.frozen_precision == "bf16" else torch.float32)
        self.width: int = model.config.hidden_size
        self.first_position = files.first_position
        self.packed = pack(model)
        if config.checkpointing:
            checkpoint_layers(model)
        if config.mode == "lora":
            from peft import LoraConfig, get_peft_model

            lora = LoraConfig(
                r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules=lora_targets(model)
            )
            with warnings.catch_warnings():  # peft asks transformers for a property by its old name
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                model = get_peft_model(model, lora)
        elif config.mode == "frozen":
            model.requires_grad_(False)
        self.model = model
        self.projection = load_projection(files).requires_grad_(False) if config.projection else None
        if self.projection is not None:
            self.width = self.projection.out_features

    def train(self, mode: bool = True) -> TextEncoder:
        """Set training mode; dropout is active only if it is wanted and the encoder is trained."""
        super().train(mode and self.dropout and self.config.mode != "frozen")
        return self

    def forward(self, tokens: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """Encode the tokens and pool their states.

        Args:
            tokens: concatenated texts of the batch with special tokens, int64 [K].
            ptr: int64 [B + 1]; molecule b has `tokens[ptr[b]:ptr[b + 1]]`, none if it has no text.

        Returns:
            Vectors [B, D], zero for a molecule without text; presence flags, bool [B].
        """
        return self.pool(self.states(tokens, ptr), ptr)

    def states(self, tokens: Tensor, ptr: Tensor) -> Tensor:
        """Compute the last hidden states of the packed tokens, in their order.

        Args:
            tokens: as in `forward`.
            ptr: as in `forward`.

        Returns:
            float32 [K, D]. In a batch without any text it is [0, D] and still depends on every parameter: the
            encoder reads the blank text, so that every rank has gradients for the same parameters.
        """
        count = int(ptr[-1])
        tokens = tokens[:count]  # tokens of no molecule are not read
        if not count:
            tokens = torch.tensor(self.blank, device=ptr.device)
            ptr = torch.tensor([0, len(self.blank)], device=ptr.device)
        # ranks gather partitioned weights together: all ranks must make the same passes, and no rank may keep
        # copies of whole weights in the cache of autocast
        cut, kind = is_sharded(self.model), tokens.device.type
        layout = lay_out(ptr, self.packed, one_pass=cut)
        autocast = torch.autocast(kind, dtype=self.autocast, cache_enabled=not cut) if self.autocast else None
        with autocast or nullcontext():
            if self.packed:
                _, position = token_positions(ptr, len(tokens))
                states = self.model(
                    input_ids=tokens.long().unsqueeze(0),
                    layout=layout,
                    position_ids=(position + self.first_position).unsqueeze(0),
                ).last_hidden_state.squeeze(0)
            else:
                states = torch.cat(
                    [
                        self.model(
                            input_ids=tokens[group.index].long().view(group.valid.shape),
                            attention_mask=group.valid.long(),
                        ).last_hidden_state.flatten(0, 1)
                        for group in layout.groups
                    ]
                ).index_select(0, layout.back)
        return states[:count].float()

    def pool(self, states: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """Pool to one vector per molecule: the mean of its states, the first (`cls`) or the last state.

        The vector is projected if the recipe wants it.

        Args:
            states: float32 [K, D].
            ptr: as in `forward`.

        Returns:
            Vectors [B, D], zero for a molecule without text; presence flags, bool [B].
        """
        lengths = ptr[1:] - ptr[:-1]
        molecule, position = token_positions(ptr, len(states))
        if self.config.pooling == "mean":
            weight = 1.0 / lengths[molecule]
        else:
            chosen = torch.zeros_like(position) if self.config.pooling == "cls" else lengths[molecule] - 1
            weight = (position == chosen).float()
        out = states.new_zeros(len(lengths), states.shape[-1])
        out = out.index_add(0, molecule, states * weight.unsqueeze(-1))
        return out if self.projection is None else self.projection(out), lengths > 0

    def depths(self) -> dict[str, int]:
        """Depth of each parameter by name: 0 for the embeddings, the largest for the top layer."""
        return {f"model.{name}": depth for name, depth in depths(self.model).items()}
