"""Optimisers, each with its memory per parameter.

Weights, gradients, averages and master copies are float32 for every optimiser. The plan, the checkpoints and
the engine read the size of the optimiser state from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from mmgnn_dist.config import Recipe
from mmgnn_dist.config.choices import load_class

FLOAT = 4  # bytes of a weight, a gradient, an average or a master copy


class Optimizer(ABC):
    """An optimiser that `train.optim.name` may name; the class is used without an instance.

    Attributes:
        state_bytes: bytes of optimiser state for each trained parameter, without weight and gradient.
        tested: whether DeepSpeed's list for ZeRO has the optimiser; others run under ZeRO at the user's risk.
    """

    state_bytes: ClassVar[int]
    tested: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def build(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Make the torch optimiser.

        Args:
            groups: parameter groups of torch with `params`, `lr` and `weight_decay`; the schedule sets `lr`.
        """


class AdamW(Optimizer):
    """AdamW of Loshchilov and Hutter 2019 (arXiv 1711.05101) with two float32 moments."""

    state_bytes = 2 * FLOAT
    tested = True

    @staticmethod
    def build(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Make torch's AdamW, fused also in host memory."""
        return torch.optim.AdamW(groups, fused=True)


def optimizer_of(recipe: Recipe) -> type[Optimizer]:
    """Return the optimiser class that a recipe names.

    Raises:
        UserError: the optimiser of a plugin cannot be used.
    """
    return load_class("optimizers", recipe.train.optim.name, Optimizer)  # type: ignore[type-abstract]


def checkpoint_bytes_per_parameter(state_bytes: int, master_copy: bool) -> int:
    """Return the bytes of a trained parameter on disk: weight, average, optimiser state, master copy.

    Args:
        state_bytes: bytes of optimiser state for each trained parameter.
        master_copy: whether there is a master copy, as at ZeRO stages 1 and 2.
    """
    return (3 if master_copy else 2) * FLOAT + state_bytes
