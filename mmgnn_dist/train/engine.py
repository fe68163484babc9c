"""The DeepSpeed engine, and its configuration from the recipe.

The same engine trains one process on a CPU and many on GPUs. The optimiser is torch's own (fused AdamW, also
in host memory, unless the recipe names another), so nothing is compiled at run time and nothing needs nvcc.

Weights, gradients and moments are float32 at every stage; `train.precision=bf16` is autocast in the language
model. Weights in bf16 with a float32 master copy would halve the messages of stage 3, but positions and
radial functions of the graph would be bf16 too. On the many ranks of a large run float32 costs little memory:
three billion parameters of 16 bytes take 0.75 GB on each of 64 GPUs.
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

BUCKET = 2**24  # elements reduced or gathered in one message: 64 MiB, so its latency does not count
# stage 3: most elements gathered at a time (1 GiB, and at least one layer); parameters stay gathered if their
# next use is at most so many elements away
LIVE, REUSE = 2**28, 2**24
# options of mallopt(3): free bytes at the end of the heap above which they go back to the system; and the
# size from which on a block is mapped by itself, and unmapped when freed
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class BatchPlan:
    """Division of a global batch into passes and ranks.

    Shares of ranks may differ by one molecule. The loss normalises over the global batch, so DeepSpeed's own
    three numbers (micro-batch, accumulation, ranks) only have to be consistent.

    Attributes:
        batch: molecules in a global batch.
        accumulation: passes of a rank in a step.
        world: number of ranks.
    """

    batch: int
    accumulation: int
    world: int

    @property
    def micro(self) -> int:
        """Largest number of molecules in one pass of a rank."""
        return -(-self.batch // (self.world * self.accumulation))


def compute_type(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the type in which the language model computes; None for float32.

    Raises:
        UserError: the recipe asks for bf16 and the hardware has no bf16 instructions.
    """
    if device.type == "cuda":
        # emulated bf16 is slower than float32
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    precision = recipe.train.precision
    if precision == "bf16" and not supported:
        raise UserError("train.precision=bf16: this hardware has no bf16 instructions; use auto or fp32")
    return torch.bfloat16 if supported and precision != "fp32" else None


def deepspeed_config(recipe: Recipe, plan: BatchPlan) -> dict[str, Any]:
    """Make the DeepSpeed configuration of a recipe."""
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
    # without this option DeepSpeed refuses optimisers under ZeRO that are not on its list
    untested = {} if optimizer_of(recipe).tested else {"zero_allow_untested_optimizer": True}
    return {
        **untested,
        "train_batch_size": plan.micro * plan.accumulation * plan.world,
        "train_micro_batch_size_per_gpu": plan.micro,
        "gradient_accumulation_steps": plan.accumulation,
        # at stage 0 DeepSpeed clips parameter by parameter; `guards.py` does it in a few operations
        "gradient_clipping": (recipe.train.optim.clip or 0.0) if stage else 0.0,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # it would be compiled; torch's is fused on the host too
        "steps_per_print": 10**9,
        "timers": {"throughput": {"enabled": False}},  # it makes the host wait for the GPU twice a step
    }


def parameter_groups(model: FusedModel, recipe: Recipe) -> list[dict[str, Any]]:
    """Make parameter groups, with a peak learning rate by branch and by layer of the language model.

    Only matrices have weight decay. `schedule.learning_rate` reads `peak` and `start` (the share of the run
    before the group is trained). With `text.layer_decay` or `text.unfreeze` the language model has groups by
    depth, named `text.00` (embeddings) and up.
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
            layers_below_top = top - depths.get(name, top)
            label = f"{branch}.{top - layers_below_top:02d}" if name in depths else branch
            decays = rank_of(parameter) >= 2
            peak = peaks[branch] * text.layer_decay**layers_below_top
            group = {
                "params": [],
                "lr": peak,
                "peak": peak,
                "start": text.unfreeze * layers_below_top / max(top, 1),
                "weight_decay": config.weight_decay if decays else 0.0,
                "name": label,
            }
            groups.setdefault((label, decays), group)["params"].append(parameter)
    return list(groups.values())


@contextmanager
def zero_init(recipe: Recipe, plan: BatchPlan, device: torch.device) -> Iterator[None]:
    """Context in which a model is built: at stage 3 no rank ever holds the whole language model.

    Inside it transformers builds the language model under `deepspeed.zero.Init` and reads its weights layer
    by layer, in the type of `text.frozen_precision`. The rest of the model is small; `make_engine` shards it.
    """
    if recipe.train.zero_stage < 3:
        yield
        return
    _deepspeed(device)
    _give_back_what_is_freed()
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    config = deepspeed_config(recipe, plan)
    if recipe.text.frozen_precision == "bf16":
        config["bf16"] = {"enabled": True}  # zero.Init knows no other way to say the type
    _held = HfDeepSpeedConfig(config)  # transformers keeps only a weak reference
    try:
        yield
    finally:
        unset_hf_deepspeed_config()


def _give_back_what_is_freed() -> None:
    """Make the C library return every freed block of a megabyte or more to the system at once.

    At stage 3 the host gathers and frees the weights of one layer after another. glibc keeps freed blocks of
    up to 32 MiB, and other blocks fragment them: a quarter more memory without any use.
    """
    _mallopt(MMAP_THRESHOLD, 2**20)


def _keep_what_is_freed() -> None:
    """Make the C library keep freed blocks: every step uses the blocks that the previous step freed.

    Returning blocks, mapping them again and filling them with zeros takes a fifth of a step of two molecules
    with MiniLM on a CPU, and each unmapping interrupts the thread that writes a checkpoint. Keeping them
    takes up to a tenth more memory at stage 0, and up to a half more at stages 1 and 2, where messages
    fragment them.
    """
    if not _mallopt(MMAP_THRESHOLD, 2**30):
        _mallopt(MMAP_THRESHOLD, 2**25)  # the maximum of glibc before 2.35
    _mallopt(TRIM_THRESHOLD, -1)


def _mallopt(option: int, value: int) -> bool:
    """Set an option of glibc's allocator; return False if it is refused or the C library is another one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(option, value))


def _deepspeed(device: torch.device) -> Any:
    """Import and start DeepSpeed, without its log messages and without operators that it compiles."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed needs it even in a single process
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(deepspeed|torch)\.")
    import deepspeed
    from deepspeed.runtime import compiler
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    # DeepSpeed would have its Muon compiled, which nobody uses here: every rank would import all of torch's
    # compiler for it, 1.4 s of processor time
    compiler.compile = lambda: compiler.dummy_decorator
    # DeepSpeed would compile this helper for CPU all-reduce for a minute at first use; gloo replaces it
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(torch.distributed.get_backend(), auto_mpi_discovery=False, verbose=False)
    return deepspeed


def make_engine(model: FusedModel, recipe: Recipe, plan: BatchPlan, device: torch.device) -> Any:
    """Make the DeepSpeed engine of a model."""
    deepspeed = _deepspeed(device)
    if device.type == "cpu" and recipe.train.zero_stage == 0:
        _keep_what_is_freed()
    groups = parameter_groups(model, recipe)
    optimizer = optimizer_of(recipe).build(groups)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=deepspeed_config(recipe, plan), dist_init_required=False
    )
    if plan.world == 1 and recipe.train.zero_stage == 0:
        engine.enable_backward_allreduce = False  # it would copy all gradients for no receiver
    return engine
