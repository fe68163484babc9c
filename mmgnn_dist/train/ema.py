"""Exponential moving average of the trainable weights, kept in float32 beside them.

Averages of weights are what is validated, exported and tested; training goes on with the weights
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averaged weights by parameter name.

    Args:
        model: its trainable parameters are averaged; the average starts from them.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._parameters = [p for _, p in named]
        self.weights: dict[str, Tensor] = {name: p.detach().clone().float() for name, p in named}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move towards the weights by (1 - decay)."""
        live = [p.detach() for p in self._parameters]
        torch._foreach_lerp_(list(self.weights.values()), live, 1.0 - decay)

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Take averaged weights from a checkpoint."""
        for name, value in self.weights.items():
            value.copy_(weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the averaged weights inside the block."""
        live = [p.detach().clone() for p in self._parameters]
        self._copy(list(self.weights.values()))
        try:
            yield
        finally:
            self._copy(live)

    @torch.no_grad()
    def _copy(self, values: list[Tensor]) -> None:
        torch._foreach_copy_([p.detach() for p in self._parameters], values)
