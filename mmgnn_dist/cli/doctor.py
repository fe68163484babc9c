"""The command-line verb that examines machines: doctor."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgnn_dist.cli.common import Verbs, add_json, add_overrides, print_result
from mmgnn_dist.errors import EXIT_DONE, UserError


def add_verbs(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    doctor = verbs.add_parser(
        "doctor", help="find what will not work on this machine or cluster, and its cure"
    )
    doctor.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="recipe whose encoder and shards are checked"
    )
    add_overrides(doctor, "text.encoder=FOLDER")
    doctor.add_argument(
        "--on-cluster", action="store_true", help="examine the nodes by a job of some minutes"
    )
    doctor.add_argument("--profile", type=Path, metavar="FILE", help="slurm/NAME.yaml, with --on-cluster")
    doctor.add_argument(
        "--dir",
        type=Path,
        default=Path("runs/doctor"),
        help="folder of the job on the shared disk (default runs/doctor)",
    )
    add_json(doctor)
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
        findings = examine_cluster(recipe, arguments.profile, arguments.dir)
    else:
        findings = examine_here(recipe)
    lines = grouped(findings)
    print_result(arguments.json, {"lines": lines}, lambda: print_lines(lines))
    raise_failures(lines)
    return EXIT_DONE
