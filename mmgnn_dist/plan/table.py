"""Terminal output of `mmgnn plan`: a table with a column for each stage and offload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmgnn_dist.plan.dry_run_table import make_table, scaled
from mmgnn_dist.plan.records import GoodputPlan, RecipePlan, StageCost
from mmgnn_dist.plan.stages import RUNTIME

UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}
SHORT = {"none": "", "optimizer": "+opt", "parameters": "+all"}


def print_plan(found: RecipePlan) -> None:
    """Print a plan."""
    from rich.console import Console

    console = Console(highlight=False)
    guess = " (from one and two layers of its encoder)" if found["extrapolated"] else ""
    console.print(
        f"[bold]{found['name']}[/] on {found['ranks']} ranks: {found['parameters']:,} parameters, "
        f"{found['trainable']:,} trained{guess}"
    )
    batch = found["measured_on"]
    console.print(
        f"activations in {found['activation_precision']}, of {batch['molecules']:.0f} molecules with "
        f"{batch['atoms']:.0f} atoms and {batch['tokens']:.0f} tokens"
    )
    console.print(_table(found))
    console.print(
        "+opt: offload of the optimiser to host memory, +all: of the weights too; checkpoint: of all ranks"
    )
    console.print(
        f"a step computes {scaled(found['flop_per_step_and_rank'], 'FLOP')} on each rank{_time(found)}"
    )
    if found["smallest"]:
        best = found["smallest"]
        console.print(
            f"smallest stage that fits: train.zero_stage={best['stage']} train.offload={best['offload']}, "
            f"{scaled(best['peak'], 'B')} and {scaled(RUNTIME, 'B')} for CUDA and NCCL"
        )
    if "goodput" in found:
        console.print(_goodput(found["goodput"]))
    for note in (*found["assumed"], *found["warnings"]):
        console.print(f"note: {note}")


def _time(found: RecipePlan) -> str:
    """Time of a step, or how to get it."""
    if found["rate"] is None:
        return ": its time takes --rate TFLOPS of a GPU, or --rate measured on this machine"
    measured = f", measured here in {found['rate_precision']}" if found["rate_precision"] else ""
    return (
        f": {found['seconds_per_step']:.3g} s at {scaled(found['rate'], 'FLOP/s')}{measured}; messages "
        "overlap it or come on top"
    )


def _goodput(found: GoodputPlan) -> str:
    """Period of checkpoints and expected goodput."""
    steps = f" (train.checkpoint_every={found['checkpoint_every']})" if found["checkpoint_every"] else ""
    own = found["goodput_of_recipe"]
    recipe = f", {own:.1%} with the period of the recipe" if own is not None else ""
    checkpoint = f"a checkpoint ({found['seconds_of_checkpoint']:.2g} s)"
    period = f"{found['daly'] / 60:.3g} min of work{steps} by Daly, {found['young'] / 60:.3g} min by Young"
    return (
        f"{found['nodes']} nodes fail every {found['seconds_between_failures'] / 3600:.3g} h: {checkpoint} "
        f"after {period}; expected goodput {found['goodput']:.1%}{recipe}. Assumed: {found['assumed']}"
    )


def _table(plan: RecipePlan) -> Any:
    """Make the table: bytes in one common unit, then time of messages and whether it fits."""
    choices = plan["choices"]
    largest = max(max(choice["peak"], choice["checkpoint_bytes"]) for choice in choices)
    unit = next(unit for unit in ("TB", "GB", "MB", "kB") if largest >= UNITS[unit])
    table = make_table(
        f"{unit} on a rank", *(f"{choice['stage']}{SHORT[choice['offload']]}" for choice in choices)
    )
    table.columns[0].no_wrap = True

    def row(name: str, value: Callable[[StageCost], int]) -> None:
        sizes = [value(choice) / UNITS[unit] for choice in choices]
        table.add_row(name, *map(_digits, sizes))

    for name in choices[0]["bytes"]:
        row(name.replace("_", " "), lambda choice, name=name: choice["bytes"][name])  # type: ignore[misc]
    table.add_section()
    row("peak on device", lambda choice: choice["peak"])
    row("host memory", lambda choice: sum(choice["host"].values()))
    row("sent in a step", lambda choice: choice["sent_per_step"])
    row("checkpoint", lambda choice: choice["checkpoint_bytes"])
    if choices[0]["seconds_of_messages"] is not None:
        table.add_row("s of messages", *(f"{choice['seconds_of_messages']:.2g}" for choice in choices))
    if plan["gpu_memory"]:
        fits = ("yes" if choice["fits"] else "no" for choice in choices)
        table.add_row(f"fits {scaled(plan['gpu_memory'], 'B')}", *fits)
    return table


def _digits(size: float) -> str:
    """Format a size in at most four characters, so that eight columns fit a terminal of 80."""
    if size < 0.005:
        return "-"
    return f"{size:.3g}" if size >= 1 else f"{size:.2f}"
