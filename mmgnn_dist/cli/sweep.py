"""The verb of the command line for searches: sweep."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import EXIT_STOPPED


def add_verbs(verbs: Any) -> None:
    """Add the parser."""
    sweep = verbs.add_parser("sweep", help="search the space of a recipe, or continue where it stopped")
    sweep.add_argument("recipe", type=Path, metavar="RECIPE", help="with a section sweep: launch/sweep.yaml")
    sweep.add_argument("overrides", nargs="*", metavar="key=value", help="override the recipe")
    sweep.add_argument("--dir", type=Path, metavar="DIR", help="folder of the sweep (default sweeps/NAME)")
    sweep.add_argument("--json", action="store_true", help="print one JSON object")
    sweep.set_defaults(action=_sweep)


def _sweep(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.progress import quiet_libraries

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    quiet_libraries()
    folder = arguments.dir or Path("sweeps") / recipe.name
    from mmgnn_dist.files import read_json
    from mmgnn_dist.sweep.leaderboard import print_leaderboard
    from mmgnn_dist.sweep.ledger import read_trials
    from mmgnn_dist.sweep.run import sweep

    code = sweep(recipe, folder, arguments.json)
    if arguments.json:
        print(json.dumps({"sweep": str(folder), "done": code == 0, **read_json(folder / "leaderboard.json")}))
        return code
    assert recipe.sweep
    print_leaderboard(recipe, folder, read_trials(folder, recipe.sweep.metric))
    if code == EXIT_STOPPED:
        print("stopped; the same command continues")
    return code
