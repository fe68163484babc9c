"""Table of a run's cost for the terminal; every number has a unit with a decimal prefix."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mmgnn_dist.plan.records import RunSummary


def print_summary(runs: list[RunSummary]) -> None:
    """Print summaries made by `dry_run.summarise_recipe`."""
    console = Console(highlight=False)
    for run in runs:
        text = f"{run['text']['encoder']} ({run['text']['mode']})" if run["text"] else "no text"
        ranks = f"{run['ranks']} rank" + "s" * (run["ranks"] > 1)
        console.print(f"[bold]{run['name']} {run['modality']}[/]: {run['backbone']}, {text}")
        console.print(f"{ranks}, {run['device']}, {run['precision']}, ZeRO stage {run['zero_stage']}")
        console.print(_work(run))
        console.print(_memory(run["memory_bytes_per_rank"]))
        for line in _lines(run):
            console.print(line)
        console.print()


def _work(run: RunSummary) -> Table:
    """Make the table of parameters and operations by branch."""
    table = make_table("branch", "parameters", "trainable", "forward per molecule")
    flop = run["flop"]
    work = flop["forward_per_molecule_by_branch"] | {"all": flop["forward_per_molecule"]}
    for branch, count in run["parameters"].items():
        forward = scaled(work[branch], "FLOP") if branch in work else ""
        table.add_row(_words(branch), f"{count['total']:,}", f"{count['trainable']:,}", forward)
    return table


def _memory(bytes_by_use: dict[str, int]) -> Table:
    """Make the table of bytes on each rank."""
    table = make_table("memory per rank", "")
    for name, count in bytes_by_use.items():
        if count:
            table.add_row(_words(name), scaled(count, "B"))
    return table


def _lines(run: RunSummary) -> list[str]:
    flop, steps, batch = run["flop"], run["steps"], run["measured_on"]
    training, forward = flop["training_per_molecule"], flop["forward_per_molecule"]
    lines = [f"training: {scaled(training, 'FLOP')} per molecule, {training / forward:.1f} times forward"]
    if flop["text_forward_per_token"]:
        lines.append(f"text encoder: {scaled(flop['text_forward_per_token'], 'FLOP')} per token, forward")
    if encoder := run.get("frozen_encoder"):
        lines.append(
            f"frozen encoder: {encoder['parameters']:,} parameters, "
            f"{scaled(encoder['flop_per_molecule'], 'FLOP')} per molecule, once for the shard set"
        )
    passes = f"{steps['passes_per_step']} pass" + "es" * (steps["passes_per_step"] > 1)
    return [
        *lines,
        f"steps: {steps['per_epoch']:,} per epoch, {steps['total']:,} in all",
        f"a step: {steps['molecules_per_step']:.1f} molecules, {steps['tokens_per_step']:,.0f} tokens, "
        f"{passes} on each rank",
        f"measured on {batch['molecules']} molecules with {batch['atoms']} atoms and "
        f"{batch['tokens']:,} tokens",
    ]


def make_table(first: str, *others: str) -> Table:
    """Make an empty table; all columns but the first are right-aligned."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _words(name: str) -> str:
    return name.replace("_", " ")


def scaled(count: float, unit: str) -> str:
    """Format a number with three digits and a decimal prefix: `1.23 GFLOP`."""
    power = 0
    while count >= 999.5:
        count, power = count / 1000.0, power + 1
    return f"{count:.3g} {('', 'k', 'M', 'G', 'T', 'P', 'E')[power]}{unit}"
