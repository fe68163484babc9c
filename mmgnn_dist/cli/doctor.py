"""The command-line verb that examines machines: doctor."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmgnn_dist.cli.common import Verbs, add_json, add_overrides, print_result, yaml_file
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
    doctor.add_argument(
        "--profile",
        type=yaml_file,
        metavar="FILE",
        help="slurm/NAME.yaml: compare it with the cluster; with --on-cluster look at the nodes",
    )
    doctor.add_argument(
        "--dir",
        type=Path,
        default=Path("runs/doctor"),
        help="folder of the job on the shared disk (default runs/doctor)",
    )
    doctor.add_argument(
        "--clean", action="store_true", help="list what killed processes have left here, ask, and remove it"
    )
    doctor.add_argument("--dry-run", action="store_true", help="with --clean: list it only")
    doctor.add_argument("--yes", action="store_true", help="with --clean: remove it without asking")
    add_json(doctor)
    doctor.set_defaults(action=_doctor)


def _clean(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.doctor.clean import find_leftovers, remove_leftovers, temporary_places
    from mmgnn_dist.cluster.slurm.profile import load_profile

    places = temporary_places()
    if arguments.profile and (scratch := load_profile(arguments.profile).scratch):
        places.append(scratch)
    found = find_leftovers(places)
    lines = [f"{item.path}  {item.what}, {item.bytes / 1e6:.1f} MB" for item in found]
    removed = bool(found) and not arguments.dry_run
    if removed and not arguments.yes:
        if arguments.json or not sys.stdin.isatty():
            raise UserError("nobody can be asked here: --clean --dry-run lists, --clean --yes removes")
        print("\n".join(lines))
        removed = input(f"remove these {len(found)}? [y/N] ").strip().lower() in ("y", "yes")
        lines = []
    kept = remove_leftovers(found) if removed else []
    count = len(found) - len(kept) if removed else 0
    result = {"found": [item._asdict() for item in found], "removed": count}
    if kept:
        print_result(arguments.json, result, lines)
        raise UserError(f"{kept[0].path} cannot be removed: see who may write to its folder")
    told = f"removed {count}" if removed else f"{len(found)} found, none removed"
    print_result(arguments.json, result, [*lines, told])
    return EXIT_DONE


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.clean:
        return _clean(arguments)
    if arguments.dry_run or arguments.yes:
        raise UserError("--dry-run and --yes go with --clean: an examination changes nothing")
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.progress import quiet_libraries

    if arguments.on_cluster and arguments.profile is None:
        raise UserError("--on-cluster needs --profile slurm/NAME.yaml: it says which nodes to look at")
    path, overrides = arguments.recipe, arguments.overrides
    if path is not None and "=" in path and not Path(path).exists():
        path, overrides = None, [path, *overrides]
    recipe = load_recipe(path and yaml_file(path), overrides)
    quiet_libraries()
    from mmgnn_dist.cluster.doctor.run import (
        examine_cluster,
        examine_here,
        examine_profile,
        grouped,
        print_lines,
        raise_failures,
    )

    if arguments.on_cluster:
        findings = examine_cluster(recipe, arguments.profile, arguments.dir)
    elif arguments.profile:
        findings = examine_profile(arguments.profile)
    else:
        findings = examine_here(recipe)
    lines = grouped(findings)
    print_result(arguments.json, {"lines": lines}, lambda: print_lines(lines))
    raise_failures(lines)
    return EXIT_DONE
