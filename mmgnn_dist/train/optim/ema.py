"""Exponential moving average of the trainable weights, in float32.

Validation, export and test use the averaged weights; training uses the weights themselves. Under ZeRO stage 3
each rank averages the part of the weights that it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmgnn_dist.models.zero3 import gathered, local_shard, repartition, shard_of


class Average:
    """Averaged weights by parameter name.

    Args:
        model: model whose trainable parameters are averaged; the average starts from them.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._parameters = dict(named)
        self._weights: dict[str, Tensor] = {name: local_shard(p).clone().float() for name, p in named}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move the averages towards the weights by a factor of (1 - decay)."""
        live = [local_shard(p) for p in self._parameters.values()]
        torch._foreach_lerp_(list(self._weights.values()), live, 1.0 - decay)

    def whole(self, keep: bool = True) -> dict[str, Tensor]:
        """Return all averaged weights, in host memory if they are sharded; all ranks must call this.

        Args:
            keep: whether this rank needs the weights; if not, it only sends its parts.
        """
        if not any(hasattr(p, "ds_tensor") for p in self._parameters.values()):
            return self._weights
        with self.applied():
            whole = gathered(self._parameters.items())
            return {name: value.cpu().clone() for name, value in whole if keep}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Restore the averages from the whole averaged weights of a checkpoint, by name."""
        for name, value in self._weights.items():
            value.copy_(shard_of(self._parameters[name], weights[name]))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the model has the averaged weights; it keeps them if the block fails.

        A single failed rank must not wait for the others to gather weights.
        """
        live = [local_shard(p).clone() for p in self._parameters.values()]
        self._copy(list(self._weights.values()))
        yield
        self._copy(live)

    @torch.no_grad()
    def _copy(self, values: list[Tensor]) -> None:
        torch._foreach_copy_([local_shard(p) for p in self._parameters.values()], values)
        repartition(self._parameters.values())
