"""What a user would write for graph and text: PyG's SchNet, a padded language model, a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmgnn_dist.bench.peers import PygSchNetPeer


class FusedPeer(nn.Module):
    """PyG's SchNet and a model of `transformers`, padded to the longest text: a batch of `Data` -> [B, 1].

    Args:
        graph: SchNet; its last layer is replaced.
        encoder: folder of the language model; all its weights are trained.
    """

    def __init__(self, graph: PygSchNetPeer, encoder: Path) -> None:
        super().__init__()
        from transformers import AutoModel

        self.graph, width = graph, graph.net.hidden_channels
        self.graph.net.lin2 = nn.Linear(width // 2, width)
        self.text = AutoModel.from_pretrained(encoder, dtype=torch.float32)
        self.project = nn.Linear(self.text.config.hidden_size, width)
        self.gate = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 1)

    def forward(self, data: Any) -> Tensor:
        """Predict one number for each molecule."""
        graph = self.graph(data)
        tokens = pad_sequence([torch.tensor(text or [0]) for text in data.tokens], batch_first=True)
        lengths = torch.tensor([len(text) or 1 for text in data.tokens])
        mask = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
        states = self.text(tokens.to(graph.device), mask.long().to(graph.device)).last_hidden_state
        weight = mask.to(graph.device).unsqueeze(-1)
        text = self.project((states * weight).sum(1) / weight.sum(1).clamp(min=1))
        gate = torch.sigmoid(self.gate(torch.cat([graph, text], -1)))
        return self.head(gate * graph + (1 - gate) * text)
