"""The command-line verb that begins a project of one's own: init."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgnn_dist.cli.common import Verbs, add_json, add_overrides, print_result
from mmgnn_dist.errors import EXIT_DONE


def add_verbs(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    init = verbs.add_parser("init", help="write a recipe, a profile and a README for molecules of your own")
    init.add_argument(
        "dir", nargs="?", default=".", metavar="DIR", help="folder of the project (default: here)"
    )
    add_overrides(init, "data.units.gap=eV")
    init.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="FILE",
        help="your molecules, as 'data prepare' takes them (default: the bundled ones)",
    )
    add_json(init)
    init.set_defaults(action=_init)


def _init(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.project.files import make_project

    folder, overrides = arguments.dir, arguments.overrides
    if "=" in folder and not Path(folder).exists():
        folder, overrides = ".", [folder, *overrides]
    made = make_project(Path(folder), arguments.data, load_recipe(None, overrides).data)
    where = [f"cd {made.folder}"] if made.folder != Path() else []
    lines = [*map(str, made.files), *made.lines, "next:", *(f"  {line}" for line in (*where, *made.next))]
    print_result(arguments.json, vars(made), lines)
    return EXIT_DONE
