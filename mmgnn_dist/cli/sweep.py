"""The command-line verb for hyperparameter searches: sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgnn_dist.cli.common import Verbs, add_json, add_recipe, print_result, read_recipe
from mmgnn_dist.errors import EXIT_DONE, EXIT_STOPPED


def add_verbs(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    sweep = verbs.add_parser("sweep", help="search the space of a recipe, or continue where it stopped")
    add_recipe(sweep, "recipe with a section sweep, such as launch/sweep.yaml")
    sweep.add_argument("--dir", type=Path, metavar="DIR", help="folder of the sweep (default sweeps/NAME)")
    add_json(sweep)
    sweep.set_defaults(continues=True, action=_sweep)


def _sweep(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.progress import quiet_libraries

    recipe = read_recipe(arguments)
    quiet_libraries()
    folder = arguments.dir or Path("sweeps") / recipe.name
    from mmgnn_dist.files import read_json
    from mmgnn_dist.sweep.leaderboard import print_leaderboard
    from mmgnn_dist.sweep.ledger import read_trials
    from mmgnn_dist.sweep.run import sweep

    code = sweep(recipe, folder, arguments.json)
    assert recipe.sweep
    section = recipe.sweep

    def print_text() -> None:
        print_leaderboard(recipe, folder, read_trials(folder, section))
        if code == EXIT_STOPPED:
            print("stopped; the same command continues")

    leaderboard = read_json(folder / "leaderboard.json")
    print_result(arguments.json, {"sweep": folder, "done": code == EXIT_DONE, **leaderboard}, print_text)
    return code
