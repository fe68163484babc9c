"""Where the cells of `mmgnn study` can run beside this machine: a Slurm array, Ray."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import EXIT_DONE, UserError


def add_places(study: argparse.ArgumentParser) -> None:
    """Add the options to the parser of the verb."""
    study.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="submit the cells that are not done as a Slurm array: slurm/NAME.yaml",
    )
    study.add_argument("--concurrent", type=int, metavar="N", help="with --profile: cells at a time")
    study.add_argument(
        "--dry-run", action="store_true", help="with --profile: print the batch script and the plan, and stop"
    )
    study.add_argument(
        "--ray", action="store_true", help="run the cells on Ray: over the allocation around, or started here"
    )
    study.set_defaults(action=_study, here=study.get_default("action"))


def _study(arguments: argparse.Namespace) -> int:
    ways = {
        "--profile": arguments.profile is not None,
        "--ray": arguments.ray,
        "--cells": arguments.cells,
        "--cell": arguments.cell is not None,
    }
    chosen = [name for name, given in ways.items() if given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} do not go together: give one of them")
    if not ways["--profile"] and (arguments.dry_run or arguments.concurrent is not None):
        raise UserError("--dry-run and --concurrent are of a Slurm array: give --profile slurm/NAME.yaml")
    if ways["--profile"]:
        return _on_slurm(arguments)
    if arguments.ray:
        from mmgnn_dist.cluster.ray.study import run_on_ray

        arguments.runner = run_on_ray
    return int(arguments.here(arguments))


def _on_slurm(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cli.cluster import print_dry_run
    from mmgnn_dist.cluster.slurm.profile import load_profile
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.progress import quiet_libraries

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    profile = load_profile(arguments.profile)  # told before the libraries load
    quiet_libraries()
    os.environ.update(profile.models())
    from mmgnn_dist.cluster.slurm.study import plan_array, submit_array

    folder = arguments.dir or Path("runs") / recipe.name
    plan, cells = plan_array(recipe, arguments.profile, folder, arguments.concurrent, arguments.json)
    jobs: list[Any] = []
    if plan.runs:
        if arguments.dry_run:
            return print_dry_run(plan, arguments.profile, arguments.json)
        jobs = submit_array(plan, cells, recipe, arguments.profile)
    if arguments.json:
        print(json.dumps({"study": str(folder), "cells": len(cells), "jobs": jobs}))
        return EXIT_DONE
    if not jobs:
        print(f"all {len(cells)} cells are done, nothing is submitted; mmgnn report {folder}")
        return EXIT_DONE
    *runs, report = jobs
    done = f", {len(cells) - len(runs)} are done already" if len(runs) < len(cells) else ""
    for one in runs:
        print(f"job {one['job']}: {Path(one['run']).name}")
    print(f"{len(runs)} of {len(cells)} cells{done}; logs {plan.base}/slurm/JOB_0_log.out")
    print(f"job {report['job']}: report {report['report']}, after all others")
    print(f"follow: mmgnn status {folder}    mmgnn logs {runs[0]['run']} --follow")
    print(f"cancel: mmgnn cancel {folder}    continue: the same command")
    return EXIT_DONE
