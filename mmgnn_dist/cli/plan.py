"""The command-line verb that estimates memory, messages and time of a recipe: plan."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from mmgnn_dist.cli.common import Verbs, add_json, add_recipe, print_result, read_recipe
from mmgnn_dist.errors import EXIT_DONE, UserError
from mmgnn_dist.progress import quiet_libraries

MEASURED = "measured"
POWERS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def add_verbs(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    plan = verbs.add_parser(
        "plan", help="estimate memory, messages and time of each ZeRO stage; trains nothing"
    )
    add_recipe(plan)
    plan.add_argument("--world", type=int, default=1, metavar="N", help="ranks, one for each GPU (default 1)")
    plan.add_argument(
        "--gpu-memory", metavar="SIZE", help="memory of one GPU, such as 80GiB: shows which stages fit"
    )
    plan.add_argument(
        "--rate",
        metavar="TFLOPS",
        help="TFLOP/s of one GPU in training, or 'measured': measure this machine (default: give no time)",
    )
    plan.add_argument("--bandwidth", type=float, metavar="GB/S", help="GB/s that each rank can send")
    plan.add_argument(
        "--mtbf",
        type=float,
        metavar="HOURS",
        help="hours between two failures of one node: gives the period of checkpoints and the goodput",
    )
    add_json(plan)
    plan.set_defaults(action=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    recipe = read_recipe(arguments)
    if arguments.rate is not None:
        arguments.rate = _rate(arguments.rate)
    for name in ("world", "rate", "bandwidth", "mtbf"):
        value = getattr(arguments, name)
        if value not in (None, MEASURED) and value <= 0:
            raise UserError(f"--{name} {value}: give a number above 0")
    _check_shards(recipe.data.shards, arguments.overrides)
    size = _bytes(arguments.gpu_memory) if arguments.gpu_memory else None
    quiet_libraries()
    from mmgnn_dist.plan.stages import plan
    from mmgnn_dist.plan.table import print_plan

    rate = arguments.rate if arguments.rate in (None, MEASURED) else arguments.rate * 1e12
    bandwidth = arguments.bandwidth and arguments.bandwidth * 1e9
    stages = plan(recipe, arguments.world, size, rate, bandwidth, arguments.json, arguments.mtbf)
    print_result(arguments.json, stages, lambda: print_plan(stages))
    return EXIT_DONE


def _check_shards(place: Path | None, overrides: list[str]) -> None:
    """Refuse a named place without a shard set; where the recipe's own one is missing, sizes are assumed."""
    named = any(word.startswith("data.shards=") for word in overrides)
    if named and place is not None and not (place / "manifest.json").is_file():
        raise UserError(
            f"data.shards={place} is no shard set: give a folder that 'mmgnn data prepare' has written, or "
            "leave data.shards out (molecules of QM9's sizes then stand for a set that is not here)"
        )


def _rate(text: str) -> float | str:
    """Convert `--rate`."""
    try:
        return text if text == MEASURED else float(text)
    except ValueError:
        raise UserError(f"--rate {text}: give the TFLOP/s of one GPU in training, or {MEASURED}") from None


def _bytes(text: str) -> int:
    """Convert a size with a unit to bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MGT]i?B)", text)
    if match is None or not float(match[1]):
        raise UserError(
            f"--gpu-memory {text}: give a number above 0 with its unit ({', '.join(POWERS)}), such as 80GiB"
        )
    return round(float(match[1]) * POWERS[match[2]])
