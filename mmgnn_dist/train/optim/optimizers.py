"""Optimisers, each with the memory that it takes of a parameter.

Weights, gradients, averages and master copies are float32 whatever the optimiser; the plan, the checkpoints
and the engine all take its own part from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from mmgnn_dist.config import Recipe
from mmgnn_dist.config.choices import load_class

FLOAT = 4  # bytes of a weight, a gradient, an average or a master copy


class Optimizer(ABC):
    """An optimiser that `train.optim.name` may name; it is never made, its class says all.

    Attributes:
        state_bytes: of what it keeps of every trained parameter, beside weight and gradient.
        tested: whether DeepSpeed has it on its list for ZeRO; others run there at the user's risk.
    """

    state_bytes: ClassVar[int]
    tested: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def build(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser itself.

        Args:
            groups: as torch takes them, with `params`, `lr` and `weight_decay`; the schedule sets their `lr`.
        """


class AdamW(Optimizer):
    """Loshchilov and Hutter 2019 (arXiv 1711.05101); its two moments are float32."""

    state_bytes = 2 * FLOAT
    tested = True

    @staticmethod
    def build(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch's own, fused also in host memory."""
        return torch.optim.AdamW(groups, fused=True)


def optimizer_of(recipe: Recipe) -> type[Optimizer]:
    """The optimiser that a recipe names.

    Raises:
        UserError: if a plugin's cannot be used.
    """
    return load_class("optimizers", recipe.train.optim.name, Optimizer)  # type: ignore[type-abstract]


def checkpoint_bytes_per_parameter(state_bytes: int, master_copy: bool) -> int:
    """Bytes of a trained parameter on disk: weight, average, the optimiser's state, and the master copy.

    Args:
        state_bytes: of the optimiser.
        master_copy: whether there is one, as at ZeRO stages 1 and 2.
    """
    return (3 if master_copy else 2) * FLOAT + state_bytes
