"""DeepSpeed: its configuration, derived from the recipe in one place, and the engine.

The same engine trains one process on a CPU and many on GPUs. The optimiser is torch's own (fused AdamW, also
in host memory, unless the recipe names another), so nothing is compiled at run time and nothing needs nvcc.

Weights, gradients and moments are float32 at every stage; `train.precision=bf16` is autocast in the language
model. Weights in bf16 with a float32 master copy would halve what stage 3 gathers, but positions and radial
functions of the graph would be in bf16 too, and over the ranks of a large run float32 costs little memory:
three billion parameters are 16 bytes each over 64 GPUs, 0.75 GB on each.
"""

from __future__ import annotations

import ctypes
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from mmgnn_dist.config import Recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.zero3 import rank_of
from mmgnn_dist.train.optim.optimizers import optimizer_of

BUCKET = 2**24  # elements that are reduced or gathered in one message: 64 MiB, too long to wait for its start
# elements that stage 3 has gathered at a time (1 GiB, and at least one layer), and how near in elements the
# next use must be for it to keep them until then
LIVE, REUSE = 2**28, 2**24
# of mallopt(3): how much may be free at the end of the heap before it goes back to the system; and from which
# size on blocks are mapped one by one, and unmapped when freed
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is cut.

    Ranks may have shares that differ by one molecule; the loss weighs every molecule by the global batch,
    so DeepSpeed's own triple (micro-batch, accumulation, ranks) only has to be consistent.

    Attributes:
        batch: molecules in a global batch.
        accumulation: passes of a rank in a step.
        world: ranks.
    """

    batch: int
    accumulation: int
    world: int

    @property
    def micro(self) -> int:
        """Most molecules in one pass of a rank."""
        return -(-self.batch // (self.world * self.accumulation))


def compute_type(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """The type in which the language model computes: None for float32.

    Raises:
        UserError: for bf16 on hardware without it.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)  # emulated, it is slower than float32
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    wanted = recipe.train.precision
    if wanted == "bf16" and not able:
        raise UserError("train.precision=bf16: this hardware has no bf16 instructions; use auto or fp32")
    return torch.bfloat16 if able and wanted != "fp32" else None


def deepspeed_config(recipe: Recipe, plan: BatchPlan) -> dict[str, Any]:
    """The DeepSpeed configuration of a recipe."""
    stage, offload = recipe.train.zero_stage, recipe.train.offload
    host = {"device": "cpu", "pin_memory": True}
    zero: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": stage > 0,
        "reduce_bucket_size": BUCKET,
        "allgather_bucket_size": BUCKET,
    }
    if offload != "none":
        zero["offload_optimizer"] = host
    if offload == "parameters":
        zero["offload_param"] = host
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": BUCKET,
            "stage3_max_live_parameters": LIVE,
            "stage3_max_reuse_distance": REUSE,
        }
    # DeepSpeed refuses optimisers at ZeRO that are not on its list, unless it is told
    untested = {} if optimizer_of(recipe).tested else {"zero_allow_untested_optimizer": True}
    return {
        **untested,
        "train_batch_size": plan.micro * plan.accumulation * plan.world,
        "train_micro_batch_size_per_gpu": plan.micro,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": recipe.train.optim.clip,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # which would be compiled; torch's is fused on the host too
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
            decays = rank_of(parameter) >= 2
            peak = peaks[branch] * text.layer_decay**below
            group = {
                "params": [],
                "lr": peak,
                "peak": peak,
                "start": text.unfreeze * below / max(top, 1),
                "weight_decay": config.weight_decay if decays else 0.0,
                "name": label,
            }
            groups.setdefault((label, decays), group)["params"].append(parameter)
    return list(groups.values())


@contextmanager
def zero_init(recipe: Recipe, plan: BatchPlan, device: torch.device) -> Iterator[None]:
    """Where a model is built: at stage 3 the language model is never whole on any rank.

    transformers builds it under `deepspeed.zero.Init` and reads its weights layer by layer while this holds;
    the rest of the model is small, and cut by `make_engine`.
    """
    if recipe.train.zero_stage < 3:
        yield
        return
    _deepspeed(device)
    _give_back_what_is_freed()
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    _held = HfDeepSpeedConfig(deepspeed_config(recipe, plan))  # transformers has only a weak reference
    try:
        yield
    finally:
        unset_hf_deepspeed_config()


def _give_back_what_is_freed() -> None:
    """Have the C library return every freed block of a megabyte to the system at once.

    At stage 3 the host gathers and frees the weights of layer after layer. glibc keeps freed blocks of up to
    32 MiB for later, between which others come to lie: a quarter more memory in the end, for nothing.
    """
    _mallopt(MMAP_THRESHOLD, 2**20)


def _keep_what_is_freed() -> None:
    """Have the C library keep freed blocks: every step takes those that the step before has freed.

    Given back, mapped again and filled with zeros, they are a fifth of a step of two molecules with MiniLM on
    a CPU, and each unmapping interrupts the thread that writes a checkpoint. Kept, they cost up to a tenth
    more memory at stage 0; at stages 1 and 2, where messages come to lie between them, up to a half more.
    """
    if not _mallopt(MMAP_THRESHOLD, 2**30):
        _mallopt(MMAP_THRESHOLD, 2**25)  # the most that glibc before 2.35 takes
    _mallopt(TRIM_THRESHOLD, -1)


def _mallopt(option: int, value: int) -> bool:
    """Set an option of glibc's allocator; False if it is not taken, or the C library is another one."""
    call = getattr(ctypes.CDLL(None), "mallopt", None)
    return call is not None and bool(call(option, value))


def _deepspeed(device: torch.device) -> Any:
    """DeepSpeed, quiet and without what it compiles."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it even of a process that is alone
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(deepspeed|torch)\.")
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    # a helper for CPU all-reduce that DeepSpeed would compile for a minute at first use; gloo does it
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(torch.distributed.get_backend(), auto_mpi_discovery=False, verbose=False)
    return deepspeed


def make_engine(model: FusedModel, recipe: Recipe, plan: BatchPlan, device: torch.device) -> Any:
    """Put the model under DeepSpeed."""
    deepspeed = _deepspeed(device)
    if device.type == "cpu" and recipe.train.zero_stage == 0:
        _keep_what_is_freed()
    groups = parameter_groups(model, recipe)
    optimizer = optimizer_of(recipe).build(groups)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=deepspeed_config(recipe, plan), dist_init_required=False
    )
    if plan.world == 1 and recipe.train.zero_stage == 0:
        engine.enable_backward_allreduce = False  # it would copy all gradients, and send them nowhere
    return engine
