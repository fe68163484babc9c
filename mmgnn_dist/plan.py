"""What a recipe needs on a cluster: memory, messages and time of each ZeRO stage: `mmgnn plan RECIPE`.

The summary of a run (`train/summary.py`) measures one micro-batch; here its parts are laid out for stages 0
to 3, with and without offload. P parameters, T of them trained, W ranks, all float32. A step's messages, sent
by each rank over a ring, with s = (W - 1) / W and p passes (micro-batches) in the step:

    stage 0   reduce gradients to all                     2 * 4 T s
    stage 1   reduce to the owners, gather new weights    2 * 4 T s
    stage 2   the same, reduced after every pass          (p + 1) * 4 T s
    stage 3   gather weights forward and backward,        p * (2 * 4 P s + 4 T s)
              reduce gradients, for every pass

An encoder too large to build here is measured with one and with two of its layers, which are all alike.
"""

from __future__ import annotations

from typing import Any

from mmgnn_dist.config import Recipe
from mmgnn_dist.models.textmodel import text_skeleton
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.engine import BUCKET, LIVE
from mmgnn_dist.train.ranks import Ranks, start_ranks
from mmgnn_dist.train.setup import open_inputs
from mmgnn_dist.train.summary import memory, summary_of
from mmgnn_dist.train.summary_table import make_table, scaled

LARGE = 250_000_000  # parameters of an encoder from which on it is not built whole for a plan
RUNTIME = 1_500_000_000  # bytes of a GPU that CUDA, its libraries and NCCL take
LITTLE = 0.1  # ZeRO that saves less than this share of the memory is not worth its messages
# (stage, offload), from the quickest to the slowest
CHOICES = (
    (0, "none"), (1, "none"), (2, "none"), (3, "none"), (1, "optimizer"), (2, "optimizer"),
    (3, "optimizer"), (3, "parameters"),
)  # fmt: skip


def plan(
    recipe: Recipe, world: int, gpu_memory: float | None = None, rate: float | None = None, quiet: bool = True
) -> dict[str, Any]:
    """Lay a recipe out on `world` ranks.

    Args:
        recipe: without regard to its twins, its ZeRO stage and offload. world: ranks.
        gpu_memory: of one GPU in GB (1e9 bytes). rate: TFLOP/s of one GPU in training; None: of this machine.
        quiet: no progress on the terminal.

    Returns:
        parameters, trainable; `choices`, one of each stage and offload: bytes on each rank by what they hold,
        bytes in host memory, bytes sent by each rank in a step, whether it fits; seconds_per_step (without
        messages); checkpoint_bytes by stage; smallest that fits; warnings.

    Raises:
        UserError: for whatever training would refuse.
    """
    summary = _summary(recipe, world, quiet)
    count = summary["parameters"]["all"]
    total, trained = count["total"], count["trainable"]
    activations = summary["memory_bytes_per_rank"]["activations"]
    passes = summary["steps"]["passes_per_step"]
    choices = [
        _choice(stage, offload, total, trained, activations, world, passes) for stage, offload in CHOICES
    ]
    for choice in choices:
        choice["fits"] = None if gpu_memory is None else choice["peak"] + RUNTIME <= gpu_memory * 1e9
    molecules = summary["steps"]["molecules_per_step"] / world
    flop = summary["flop"]["training_per_molecule"] * molecules
    on = summary["measured_on"]["molecules"]
    seconds = flop / (rate * 1e12) if rate else summary["seconds_per_pass"] * molecules / on
    fitting = next((c for c in choices if c["fits"]), None)
    return {
        "name": recipe.name, "ranks": world, "device": summary["device"], "parameters": total,
        "trainable": trained, "choices": choices, "flop_per_step_and_rank": flop,
        "seconds_per_step": seconds, "rate_tflops": rate or flop / seconds / 1e12,
        "measured_on": summary["measured_on"], "extrapolated": summary.get("extrapolated", False),
        "checkpoint_bytes": {"stage 0": 16 * trained, "stages 1 to 3": 20 * trained},
        "gpu_memory": gpu_memory,
        "smallest": fitting and {name: fitting[name] for name in ("stage", "offload", "peak")},
        "warnings": _warnings(recipe, choices, world, gpu_memory, fitting),
    }  # fmt: skip


def _choice(
    stage: int, offload: str, total: int, trained: int, activations: int, world: int, passes: int
) -> dict[str, Any]:
    """One stage with one offload."""
    held = memory(total, trained, activations, stage, world)
    del held["total"]
    # where stage 0 sends its gradients it has a flat copy of them; the others send by buckets, two at a time
    held["messages"] = 0
    if world > 1:
        held["messages"] = 4 * trained if stage == 0 else 2 * 4 * min(BUCKET, trained)
    if stage == 3:
        held["gathered"] = 4 * min(total - total // world, LIVE)
    host = 0
    moved = ("optimizer", "master_copy") + (("weights", "average") if offload == "parameters" else ())
    if offload != "none":
        if stage >= 2:
            moved += ("gradients",)
        host = sum(held[name] for name in moved)
        held |= dict.fromkeys(moved, 0)
    # gradients of activations come and go with them; stage 0 sends after the backward pass, without both
    steady = sum(n for name, n in held.items() if name not in ("activations", "messages"))
    during = held["activations"], held["messages"]
    peak = steady + (max(during) if stage == 0 else sum(during))
    share = (world - 1) / world
    sent = {
        0: 8 * trained, 1: 8 * trained, 2: 4 * trained * (passes + 1), 3: passes * (8 * total + 4 * trained),
    }[stage]  # fmt: skip
    return {
        "stage": stage, "offload": offload, "bytes": held, "peak": peak, "host": host,
        "sent_per_step": round(sent * share),
    }  # fmt: skip


def _warnings(
    recipe: Recipe, choices: list[dict[str, Any]], world: int, gpu_memory: float | None, fitting: Any
) -> list[str]:
    whole = choices[0]["peak"]
    least = min(choice["peak"] for choice in choices if choice["offload"] == "none")
    warnings = []
    if world == 1 and recipe.train.zero_stage:
        warnings.append("one rank: ZeRO has nobody to share with and adds a copy of the weights; use stage 0")
    elif whole - least < LITTLE * whole or (gpu_memory and whole + RUNTIME < 0.5 * gpu_memory * 1e9):
        warnings.append(
            f"ZeRO buys nothing here: stage 0 needs {scaled(whole, 'B')} a rank and the best stage "
            f"{scaled(least, 'B')}; use train.zero_stage=0"
        )
    if gpu_memory and fitting is None:
        warnings.append(
            f"nothing fits {gpu_memory:g} GB: lower train.micro_batch, use text.checkpointing=true or "
            "text.mode=lora, or more ranks"
        )
    return warnings


def _summary(recipe: Recipe, world: int, quiet: bool) -> dict[str, Any]:
    """The summary of a recipe, from some layers of its encoder if that is large."""
    ranks = Ranks(0, world, start_ranks(recipe.train.threads).device)
    train = recipe.train.model_copy(update={"zero_stage": 0, "offload": "none"})
    recipe = recipe.model_copy(update={"twins": [], "train": train})
    with Progress("plan", quiet) as progress:
        inputs = open_inputs(recipe, verify=False)
        if inputs.files is None or recipe.text.mode != "full":
            return summary_of(inputs, ranks, progress)
        skeleton = text_skeleton(inputs.files)
        if sum(p.numel() for p in skeleton.parameters()) < LARGE:
            return summary_of(inputs, ranks, progress)
        found = []
        for layers in (1, 2):
            random = {**(recipe.text.random or {}), "num_hidden_layers": layers}
            text = recipe.text.model_copy(update={"random": random})
            inputs = open_inputs(recipe.model_copy(update={"text": text}), verify=False)
            found.append(summary_of(inputs, ranks, progress))
        return {**_extend(found[0], found[1], skeleton.config.num_hidden_layers), "extrapolated": True}


def _extend(one: Any, two: Any, layers: int) -> Any:
    """What a model of one layer and the same of two say of one of `layers`, number by number."""
    if isinstance(one, dict):
        return {key: _extend(value, two[key], layers) for key, value in one.items()}
    if isinstance(one, (int, float)) and not isinstance(one, bool):
        return one + (two - one) * (layers - 1)
    return one


def print_plan(found: dict[str, Any]) -> None:
    """Show what `plan` found."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(
        f"[bold]{found['name']}[/] on {found['ranks']} ranks: {found['parameters']:,} parameters, "
        f"{found['trainable']:,} trained"
    )
    names = list(dict.fromkeys(name for choice in found["choices"] for name in choice["bytes"]))
    rows = make_table(
        "stage", "offload", *(n.replace("_", " ") for n in names), "peak", "host", "sent a step", "fits"
    )
    for choice in found["choices"]:
        held = [scaled(choice["bytes"].get(name, 0), "B") for name in names]
        fits = {None: "", True: "yes", False: "no"}[choice["fits"]]
        ends = [scaled(choice[name], "B") for name in ("peak", "host", "sent_per_step")]
        rows.add_row(str(choice["stage"]), choice["offload"], *held, *ends, fits)
    console.print(rows)
    for name, size in found["checkpoint_bytes"].items():
        console.print(f"checkpoint at {name}: {scaled(size, 'B')}")
    console.print(
        f"a step: {scaled(found['flop_per_step_and_rank'], 'FLOP')} a rank, {found['seconds_per_step']:.3g} "
        f"s at {found['rate_tflops']:.3g} TFLOP/s, messages apart"
    )
    if found["smallest"]:
        best = found["smallest"]
        console.print(
            f"smallest stage that fits {found['gpu_memory']:g} GB: train.zero_stage={best['stage']} "
            f"train.offload={best['offload']}, {scaled(best['peak'], 'B')}"
        )
    for warning in found["warnings"]:
        console.print(f"note: {warning}")
