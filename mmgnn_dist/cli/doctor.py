"""The verb of the command line for machines: doctor."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import EXIT_DONE, UserError


def add_verbs(verbs: Any) -> None:
    """Add the parser."""
    doctor = verbs.add_parser("doctor", help="what will not work on this machine or cluster, and its cure")
    doctor.add_argument("recipe", nargs="?", metavar="RECIPE", help="look at its encoder and shards")
    doctor.add_argument("overrides", nargs="*", metavar="key=value", help="override the recipe")
    doctor.add_argument(
        "--on-cluster", action="store_true", help="look at the nodes, by a job of some minutes"
    )
    doctor.add_argument("--profile", type=Path, metavar="FILE", help="slurm/NAME.yaml, with --on-cluster")
    doctor.add_argument(
        "--dir", type=Path, default=Path("runs/doctor"), help="of the job, on the shared disk (runs/doctor)"
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(action=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.progress import quiet_libraries

    if arguments.on_cluster != (arguments.profile is not None):
        raise UserError(
            "--on-cluster and --profile slurm/NAME.yaml go together: it says which nodes to look at"
        )
    path, overrides = arguments.recipe, arguments.overrides
    if path is not None and "=" in path and not Path(path).exists():
        path, overrides = None, [path, *overrides]
    recipe = load_recipe(path and Path(path), overrides)
    quiet_libraries()
    from mmgnn_dist.cluster.doctor.run import (
        examine_cluster,
        examine_here,
        grouped,
        print_lines,
        raise_failures,
    )

    if arguments.on_cluster:
        found = examine_cluster(recipe, arguments.profile, arguments.dir)
    else:
        found = examine_here(recipe)
    lines = grouped(found)
    if arguments.json:
        print(json.dumps({"lines": lines}))
    else:
        print_lines(lines)
    raise_failures(lines)
    return EXIT_DONE
