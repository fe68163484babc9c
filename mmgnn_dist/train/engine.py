"""DeepSpeed: its configuration, derived from the recipe in one place, and the engine.

The same engine trains one process on a CPU and many on GPUs. The optimiser is torch's fused AdamW, so
nothing is compiled at run time and nothing needs nvcc.
"""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from mmgnn_dist.config import Recipe
from mmgnn_dist.models.fused import FusedModel


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is cut.

    Ranks may have shares that differ by one molecule; the loss weighs every molecule by the global batch,
    so DeepSpeed's own triple (micro-batch, accumulation, ranks) only has to be consistent.

    Attributes:
        batch: molecules in a global batch. accumulation: passes of a rank in a step. world: ranks.
    """

    batch: int
    accumulation: int
    world: int

    @property
    def micro(self) -> int:
        """Most molecules in one pass of a rank."""
        return -(-self.batch // (self.world * self.accumulation))


def deepspeed_config(recipe: Recipe, plan: BatchPlan) -> dict[str, Any]:
    """The DeepSpeed configuration of a recipe."""
    return {
        "train_batch_size": plan.micro * plan.accumulation * plan.world,
        "train_micro_batch_size_per_gpu": plan.micro,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": recipe.train.optim.clip,
        "zero_optimization": {"stage": recipe.train.zero_stage},
        "steps_per_print": 10**9,
    }


def parameter_groups(model: FusedModel, recipe: Recipe) -> list[dict[str, Any]]:
    """Groups with the peak learning rate of their branch, and of their layer in the language model.

    Only matrices decay. `peak` and `start` (share of the run before the group's turn) are what
    `schedule.learning_rate` reads. With `text.layer_decay` or `text.unfreeze` the language model has groups
    by depth, named `text.00` (embeddings) and up.
    """
    config, text = recipe.train.optim, recipe.text
    peaks = {"backbone": config.lr, "text": config.lr_text, "fusion": config.lr_fusion}
    depths = {}
    if model.encoder is not None and (text.layer_decay < 1 or text.unfreeze):
        depths = {f"encoder.{name}": depth for name, depth in model.encoder.depths().items()}
    top = max(depths.values(), default=0)
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for branch, named in model.branches().items():
        for name, parameter in named:
            below = top - depths.get(name, top)
            label = f"{branch}.{top - below:02d}" if name in depths else branch
            decays = parameter.ndim >= 2
            peak = peaks[branch] * text.layer_decay**below
            group = {
                "params": [], "lr": peak, "peak": peak, "start": text.unfreeze * below / max(top, 1),
                "weight_decay": config.weight_decay if decays else 0.0, "name": label,
            }  # fmt: skip
            groups.setdefault((label, decays), group)["params"].append(parameter)
    return list(groups.values())


def make_engine(model: FusedModel, recipe: Recipe, plan: BatchPlan, device: torch.device) -> Any:
    """Put the model under DeepSpeed."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it even of a process that is alone
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(deepspeed|torch)\.")
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    # a helper for CPU all-reduce that DeepSpeed would compile for a minute at first use; gloo does it
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    groups = parameter_groups(model, recipe)
    optimizer = torch.optim.AdamW(groups, fused=True)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=deepspeed_config(recipe, plan), dist_init_required=False
    )
    return engine
