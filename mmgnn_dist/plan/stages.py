"""Plan of a recipe: memory and messages for ZeRO stages 0 to 3, with and without offload."""

from __future__ import annotations

from typing import Literal

from mmgnn_dist.config import Recipe
from mmgnn_dist.plan.dry_run_table import scaled
from mmgnn_dist.plan.goodput import plan_goodput
from mmgnn_dist.plan.measure import measured_dry_run
from mmgnn_dist.plan.memory import FROZEN_BYTES, checkpoint_bytes, memory, sent_bytes
from mmgnn_dist.plan.records import RecipePlan, RunSummary, SmallestStage, StageCost
from mmgnn_dist.train.optim.optimizers import optimizer_of

RUNTIME = 1_500_000_000  # bytes of a GPU used by CUDA, its libraries and NCCL
LITTLE = 0.1  # ZeRO is not worth its messages if it saves less than this share of the memory
# (stage, offload), from the fastest to the slowest
CHOICES = (
    (0, "none"),
    (1, "none"),
    (2, "none"),
    (3, "none"),
    (1, "optimizer"),
    (2, "optimizer"),
    (3, "optimizer"),
    (3, "parameters"),
)


def plan(
    recipe: Recipe,
    world: int,
    gpu_memory: int | None = None,
    rate: float | Literal["measured"] | None = None,
    bandwidth: float | None = None,
    quiet: bool = True,
    mtbf: float | None = None,
) -> RecipePlan:
    """Plan a recipe on `world` ranks.

    Args:
        recipe: the recipe; its twins, ZeRO stage and offload are ignored.
        world: number of ranks.
        gpu_memory: bytes of one GPU.
        rate: FLOP/s of one rank in training, or `measured` here; None leaves out the time of a step.
        bandwidth: bytes/s that a rank can send; None leaves out the time of messages.
        quiet: show no progress on the terminal.
        mtbf: hours between two failures of a node; None leaves out the period of checkpoints.

    Returns:
        parameters, trainable; `choices`, one for each stage and offload: bytes on each rank by use, bytes in
        host memory, bytes sent by each rank in a step, checkpoint_bytes of all ranks, whether it fits;
        flop_per_step_and_rank, rate, seconds_per_step (computation only); the smallest that fits; what is
        assumed; warnings.

    Raises:
        UserError: training would refuse the recipe.
    """
    measured = rate == "measured"
    summary, assumed = measured_dry_run(recipe, world, measured, quiet)
    count, steps = summary["parameters"]["all"], summary["steps"]
    total, trained = count["total"], count["trainable"]
    choices = _choices(recipe, summary, world, gpu_memory, bandwidth)
    molecules = steps["molecules_per_step"] / world
    flop = summary["flop"]["training_per_molecule"] * molecules
    speed = None if rate == "measured" else rate
    if measured:
        measured_flop = summary["flop"]["training_per_molecule"] * summary["measured_on"]["molecules"]
        speed = measured_flop / summary["seconds_per_pass"]
    fitting = next((choice for choice in choices if choice["fits"]), None)
    smallest: SmallestStage | None = fitting and {
        "stage": fitting["stage"],
        "offload": fitting["offload"],
        "peak": fitting["peak"],
    }
    found: RecipePlan = {
        "name": recipe.name,
        "ranks": world,
        "parameters": total,
        "trainable": trained,
        "choices": choices,
        "activation_precision": summary["precision"],
        "flop_per_step_and_rank": flop,
        "rate": speed,
        "rate_precision": summary["rate_precision"] if measured else None,
        "seconds_per_step": flop / speed if speed else None,
        "assumed": assumed,
        "measured_on": summary["measured_on"],
        "device": summary["device"],
        "extrapolated": summary["extrapolated"],
        "gpu_memory": gpu_memory,
        "smallest": smallest,
        "warnings": _warnings(recipe, choices, world, gpu_memory, fitting),
    }
    if mtbf is not None:
        # checkpoints differ between stages by the master copy at most
        size = next(choice for choice in choices if choice["stage"] == recipe.train.zero_stage)
        found["goodput"] = plan_goodput(
            mtbf, world, size["checkpoint_bytes"], found["seconds_per_step"], recipe.train.checkpoint_every
        )
    return found


def _choices(
    recipe: Recipe, summary: RunSummary, world: int, gpu_memory: int | None, bandwidth: float | None
) -> list[StageCost]:
    """Cost of every stage and offload; arguments as in `plan`."""
    count = summary["parameters"]["all"]
    total, trained = count["total"], count["trainable"]
    activations = summary["memory_bytes_per_rank"]["activations"]
    choices: list[StageCost] = []
    passes, largest = summary["steps"]["passes_per_step"], summary["largest_parameter"]
    state, rounding = optimizer_of(recipe).state_bytes, summary["pinned_rounding"]
    frozen = FROZEN_BYTES[recipe.text.frozen_precision]
    for stage, offload in CHOICES:
        memory_use = memory(
            total, trained, largest, activations, stage, world, offload, passes, state, rounding, frozen
        )
        sent = sent_bytes(total, trained, stage, world, passes, frozen)
        choices.append(
            {
                "stage": stage,
                "offload": offload,
                "bytes": memory_use.device,
                "peak": memory_use.peak,
                "host": memory_use.host,
                "sent_per_step": sent,
                "seconds_of_messages": sent / bandwidth if bandwidth else None,
                "checkpoint_bytes": checkpoint_bytes(trained, stage, state),
                "fits": memory_use.peak + RUNTIME <= gpu_memory if gpu_memory else None,
            }
        )
    return choices


def _warnings(
    recipe: Recipe, choices: list[StageCost], world: int, gpu_memory: int | None, fitting: StageCost | None
) -> list[str]:
    unsharded_peak = choices[0]["peak"]
    smallest_peak = min(choice["peak"] for choice in choices if choice["offload"] == "none")
    roomy = gpu_memory and unsharded_peak + RUNTIME < 0.5 * gpu_memory
    fits = not gpu_memory or choices[0]["fits"]
    warnings = []
    if world == 1:
        if recipe.train.zero_stage and recipe.train.offload == "none" and fits:
            warnings.append(
                "one rank: ZeRO has nobody to share with and adds a copy of the weights; use stage 0"
            )
    elif fits and unsharded_peak - smallest_peak < LITTLE * unsharded_peak:
        warnings.append(
            f"ZeRO buys nothing here: stage 0 needs {scaled(unsharded_peak, 'B')} a rank and the best stage "
            f"{scaled(smallest_peak, 'B')}; use train.zero_stage=0"
        )
    elif roomy:
        warnings.append(
            f"ZeRO buys nothing here: stage 0 needs {scaled(unsharded_peak, 'B')}, less than half of the "
            "GPU; sharing would only add messages, use train.zero_stage=0"
        )
    if gpu_memory and fitting is None:
        warnings.append(
            f"nothing fits {scaled(gpu_memory, 'B')}: lower train.micro_batch, use text.checkpointing=true "
            "or text.mode=lora, or more ranks"
        )
    return warnings
