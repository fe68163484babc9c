"""Text encoder: tokens -> a state each and one vector a molecule, by any Hugging Face encoder.

Modes: `full` trains every weight, `lora` trains low-rank adapters (Hu et al. 2021, arXiv 2106.09685)
beside frozen weights, `frozen` trains none (its vectors come from the sidecar, see `embeddings.py`).

Shapes: `B` molecules, `K` packed tokens, `D` width of the encoder.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.models.text_encoder.hf_model import checkpoint_layers, depths, load_encoder, lora_targets
from mmgnn_dist.models.text_encoder.packing import lay_out, pack, token_positions
from mmgnn_dist.models.zero3 import is_sharded


class TextEncoder(nn.Module):
    """A language model with pooling: packed tokens -> states [K, D] -> vectors [B, D] and a presence flag.

    Args:
        files: where the weights are.
        config: mode, pooling, rank of the adapters, checkpointing.
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
        self.first_position = files.first_position
        self.packed = pack(model)
        if config.checkpointing:
            checkpoint_layers(model)
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

        Args:
            tokens: as in `forward`.
            ptr: as in `forward`.

        Returns:
            float32 [K, D]. Without any text [0, D], still a function of every parameter: the encoder reads
            the blank text, so that every rank has gradients for the same parameters.
        """
        count = int(ptr[-1])
        tokens = tokens[:count]  # what no molecule refers to is not read
        if not count:
            tokens = torch.tensor(self.blank, device=ptr.device)
            ptr = torch.tensor([0, len(self.blank)], device=ptr.device)
        # ranks that share the weights out gather them together: all of them make the same passes, and none
        # keeps copies of whole weights in the cache of autocast
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
        """One vector a molecule: the mean of its states, the first (`cls`) or the last of them.

        Args:
            states: float32 [K, D].
            ptr: as in `forward`.

        Returns:
            Vectors [B, D], zero where there is no text; presence, bool [B].
        """
        lengths = ptr[1:] - ptr[:-1]
        molecule, position = token_positions(ptr, len(states))
        if self.config.pooling == "mean":
            weight = 1.0 / lengths[molecule]
        else:
            chosen = torch.zeros_like(position) if self.config.pooling == "cls" else lengths[molecule] - 1
            weight = (position == chosen).float()
        out = states.new_zeros(len(lengths), states.shape[-1])
        return out.index_add(0, molecule, states * weight.unsqueeze(-1)), lengths > 0

    def depths(self) -> dict[str, int]:
        """Depth of each parameter by name: 0 the embeddings, the largest the top layer."""
        return {f"model.{name}": depth for name, depth in depths(self.model).items()}
