"""The verbs of the command line for clusters: submit, status, logs, cancel, fetch-model."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import EXIT_DONE, UserError


def add_verbs(verbs: Any) -> None:
    """Add the parsers."""
    submit = verbs.add_parser("submit", help="submit a recipe to a Slurm cluster")
    submit.add_argument("recipe", type=Path, metavar="RECIPE")
    submit.add_argument("overrides", nargs="*", metavar="key=value", help="override the recipe")
    submit.add_argument("--profile", type=Path, required=True, metavar="FILE", help="slurm/NAME.yaml")
    submit.add_argument("--run", type=Path, metavar="DIR", help="run directory (default runs/NAME)")
    submit.add_argument(
        "--folds", type=_numbers, default=[], metavar="N,N", help="a run for each fold of the split: 0,1,2"
    )
    submit.add_argument("--seeds", type=_numbers, default=[], metavar="N,N", help="a run for each seed")
    submit.add_argument(
        "--dry-run", action="store_true", help="print the batch script and the plan, and stop"
    )
    submit.add_argument("--json", action="store_true", help="print one JSON object")
    submit.set_defaults(action=_submit)
    for verb, action, what in (
        ("status", _status, "what submitted runs do (default: all below runs/)"),
        ("cancel", _cancel, "cancel submitted runs"),
    ):
        parser = verbs.add_parser(verb, help=what)
        parser.add_argument("runs", nargs="*" if verb == "status" else "+", type=Path, metavar="RUN")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.set_defaults(action=action)
    logs = verbs.add_parser("logs", help="the log of a submitted run")
    logs.add_argument("run", type=Path, metavar="RUN")
    logs.add_argument("--rank", type=int, default=0, help="default 0")
    logs.add_argument("--lines", type=int, default=40, help="default 40")
    logs.add_argument("--follow", action="store_true", help="go on until the job ends")
    logs.set_defaults(action=_logs)
    fetch = verbs.add_parser("fetch-model", help="download an encoder for nodes without internet")
    fetch.add_argument("model", metavar="NAME@REVISION", help="name on the Hugging Face hub and commit")
    fetch.add_argument("--json", action="store_true", help="print one JSON object")
    fetch.set_defaults(action=_fetch_model)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _submit(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    from mmgnn_dist.cluster.slurm.profile import load_profile
    from mmgnn_dist.progress import quiet_libraries

    profile = load_profile(arguments.profile)  # told before the libraries load
    quiet_libraries()
    os.environ.update(profile.models())
    from mmgnn_dist.cluster.slurm.submit import check_with_slurm, make_submit_plan, submit

    base = arguments.run or Path("runs") / recipe.name
    plan = make_submit_plan(recipe, arguments.profile, base, arguments.folds, arguments.seeds, arguments.json)
    if arguments.dry_run:
        return print_dry_run(plan, arguments.profile, arguments.json)
    check_with_slurm(plan, arguments.profile)
    found = submit(plan, arguments.profile)
    if arguments.json:
        print(json.dumps({"jobs": found}))
        return EXIT_DONE
    for one in found:
        if "report" in one:
            print(f"job {one['job']}: report {one['report']}, after all others")
            continue
        print(f"job {one['job']}: run directory {one['run']}, log {one['log'].replace('%t', '0')}")
    print(f"follow: mmgnn status {plan.base}    mmgnn logs {next(iter(plan.runs))} --follow")
    print(f"cancel: mmgnn cancel {plan.base}")
    return EXIT_DONE


def print_dry_run(plan: Any, profile: Path, as_json: bool) -> int:
    """Print the script of a plan, what Slurm says of it, and what its first run takes."""
    from mmgnn_dist.cluster.slurm import queries as slurm
    from mmgnn_dist.cluster.slurm.submit import check_with_slurm
    from mmgnn_dist.plan.dry_run import summarise_recipe
    from mmgnn_dist.plan.dry_run_table import print_summary

    script = plan.script()
    verdict = None
    if slurm.here():
        verdict = check_with_slurm(plan, profile)
    run, recipe = next(iter(plan.runs.items()))
    recipe = recipe.model_copy(update={"twins": []})
    if plan.profile.gpus_per_node and recipe.train.precision == "bf16":
        # a login node may lack the instructions that the GPUs have
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": "auto"})})
    summary = summarise_recipe(recipe, run, plan.profile.world, as_json)
    batch = plan.batches[0]
    cut = {"world": batch.world, "micro_batch": batch.micro, "accumulation": batch.accumulation}
    if as_json:
        print(json.dumps({"script": script, "slurm": verdict, "plan": cut, "runs": summary}))
        return EXIT_DONE
    print(script)
    print(f"# {len(plan.runs)} job(s): {', '.join(map(str, plan.runs))}")
    print(
        f"# world size {batch.world} ({plan.profile.nodes} nodes x {plan.profile.tasks_per_node} ranks), "
        f"global batch {batch.batch} = {batch.micro} molecules in a micro-batch x {batch.accumulation} "
        f"passes x {batch.world} ranks at most"
    )
    print_summary(summary)
    print(f"Slurm: {verdict}" if verdict else "Slurm was not asked: this machine has none")
    return EXIT_DONE


def _status(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.slurm.status import find_runs, print_status, status
    from mmgnn_dist.cluster.slurm.study_status import print_studies, study_status

    runs = find_runs(arguments.runs, Path("runs"))
    found = status(runs)
    studies = study_status(runs, found)
    if arguments.json:
        print(json.dumps({"runs": found, "studies": studies}))
    else:
        print_status(found)
        print_studies(studies)
    return EXIT_DONE


def _logs(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.slurm.status import find_runs, show_log

    runs = find_runs([arguments.run], arguments.run)
    if len(runs) > 1:
        raise UserError(f"{arguments.run} holds {len(runs)} runs: name one, such as {runs[0]}")
    show_log(runs[0], arguments.rank, arguments.lines, arguments.follow)
    return EXIT_DONE


def _cancel(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.slurm.status import cancel, find_runs

    gone = cancel(find_runs(arguments.runs, Path("runs")))
    if arguments.json:
        print(json.dumps({"cancelled": gone}))
    else:
        print(f"cancelled {', '.join(gone)}" if gone else "nothing to cancel: no job of these is active")
    return EXIT_DONE


def _fetch_model(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.data.text.encoder_files import fetch_encoder

    files = fetch_encoder(arguments.model)
    if arguments.json:
        print(json.dumps({"name": files.name, "revision": files.revision, "folder": str(files.folder)}))
    else:
        print(f"{files.name}@{files.revision} is in {files.folder}")
        print(f"use it: text.encoder={files.name} text.revision={files.revision}")
    return EXIT_DONE
