"""The command-line verbs for clusters: submit, status, logs, cancel, fetch-model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgnn_dist.cli.common import Verbs, add_json, add_recipe, print_result, read_recipe, yaml_file
from mmgnn_dist.errors import EXIT_DONE, UserError

if TYPE_CHECKING:
    from mmgnn_dist.cluster.slurm.submit import SubmitPlan
    from mmgnn_dist.config import Recipe
    from mmgnn_dist.run_records import JobRecord, ReportJobRecord


def add_verbs(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    submit = verbs.add_parser("submit", help="submit a recipe to a Slurm cluster")
    add_recipe(submit)
    submit.add_argument("--profile", type=yaml_file, required=True, metavar="FILE", help="slurm/NAME.yaml")
    submit.add_argument("--run", type=Path, metavar="DIR", help="run directory (default runs/NAME)")
    submit.add_argument(
        "--folds", type=_numbers, default=[], metavar="N,N", help="a run for each fold of the split: 0,1,2"
    )
    submit.add_argument("--seeds", type=_numbers, default=[], metavar="N,N", help="a run for each seed")
    submit.add_argument(
        "--dry-run", action="store_true", help="print the batch script and the plan, and stop"
    )
    add_stage(submit)
    add_json(submit)
    submit.set_defaults(continues=True, action=_submit)
    for verb, action, description in (
        (
            "status",
            _status,
            "show the state of submitted runs, and of jobs that prepare or sweep (default: all)",
        ),
        ("cancel", _cancel, "cancel submitted runs"),
    ):
        parser = verbs.add_parser(verb, help=description)
        parser.add_argument("runs", nargs="*" if verb == "status" else "+", type=Path, metavar="RUN")
        add_json(parser)
        parser.set_defaults(action=action)
    logs = verbs.add_parser("logs", help="print the log of a submitted run")
    logs.add_argument("run", type=Path, metavar="RUN")
    logs.add_argument("--rank", type=int, default=0, help="default 0")
    logs.add_argument("--lines", type=int, default=40, help="default 40")
    logs.add_argument("--follow", action="store_true", help="print new lines until the job ends")
    add_json(logs)
    logs.set_defaults(action=_logs)
    fetch = verbs.add_parser("fetch-model", help="download an encoder for nodes without internet")
    fetch.add_argument("model", metavar="NAME@REVISION", help="name on the Hugging Face hub and commit")
    add_json(fetch)
    fetch.set_defaults(action=_fetch_model)


def add_stage(parser: argparse.ArgumentParser) -> None:
    """Add `--stage`."""
    parser.add_argument(
        "--stage",
        action="store_true",
        help="pack the Python environment once; each node unpacks it on its own disk (profile: scratch)",
    )


def read_recipe_for_slurm(arguments: argparse.Namespace) -> Recipe:
    """Read the recipe of a verb that submits to Slurm, before the heavy libraries load.

    Also puts the profile's model cache into the environment, since the checks look for encoders there.

    Raises:
        UserError: if the recipe or the profile is wrong.
    """
    from mmgnn_dist.cluster.slurm.profile import load_profile
    from mmgnn_dist.progress import quiet_libraries

    recipe = read_recipe(arguments)
    profile = load_profile(arguments.profile)
    quiet_libraries()
    os.environ.update(profile.models())
    return recipe


def print_dry_run(plan: SubmitPlan, profile: Path, as_json: bool) -> int:
    """Print the batch script and the plan without submitting anything.

    Args:
        plan: plan of the submission.
        profile: file of the profile.
        as_json: print one JSON object.

    Returns:
        The exit code.

    Raises:
        UserError: if Slurm refuses the script.
    """
    from mmgnn_dist.cluster.slurm import queries as slurm
    from mmgnn_dist.cluster.slurm.profile import load_profile
    from mmgnn_dist.cluster.slurm.site import restart_mode
    from mmgnn_dist.cluster.slurm.submit import check_with_slurm
    from mmgnn_dist.plan.dry_run import summarise_recipe
    from mmgnn_dist.plan.dry_run_table import print_summary

    script = plan.script()
    verdict = check_with_slurm(plan, profile) if slurm.here() else None
    restart = restart_mode(load_profile(profile))._asdict() if slurm.here() else None
    run, recipe = next(iter(plan.runs.items()))
    recipe = recipe.model_copy(update={"twins": []})
    if plan.profile.gpus_per_node and recipe.train.precision == "bf16":
        # a login node may lack the instructions that the GPUs have
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": "auto"})})
    summary = summarise_recipe(recipe, run, plan.profile.world, as_json)
    batch = plan.batches[0]
    cut = {"world": batch.world, "micro_batch": batch.micro, "accumulation": batch.accumulation}

    def print_text() -> None:
        print(script)
        print(f"# {len(plan.runs)} job(s): {', '.join(map(str, plan.runs))}")
        print(
            f"# world size {batch.world} ({plan.profile.nodes} nodes x {plan.profile.tasks_per_node} ranks), "
            f"global batch {batch.batch} = {batch.micro} molecules in a micro-batch x {batch.accumulation} "
            f"passes x {batch.world} ranks at most"
        )
        print_summary(summary)
        if restart:
            jobs = f"in {plan.successors} jobs that follow" if plan.successors else "by a requeue of its job"
            print(f"a run starts again {jobs}: {restart['why']}")
        print(f"Slurm: {verdict}" if verdict else "Slurm was not asked: this machine has none")

    result = {"script": script, "slurm": verdict, "plan": cut, "restart": restart, "runs": summary}
    print_result(as_json, result, print_text)
    return EXIT_DONE


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def told_successors(jobs: Sequence[JobRecord | ReportJobRecord]) -> str:
    """Return the line that tells how many jobs follow each run, and why they are fewer than restarts."""
    run = next(job for job in jobs if "run" in job)
    line = f"{len(run.get('successors', []))} jobs follow, should this one end early; they end with the run"
    return f"{line} (Slurm takes no more: {run['refused']})" if "refused" in run else line


def submit_cells(arguments: argparse.Namespace) -> int:
    """Submit the cells of a study that are not done as a Slurm array, and the job that writes the report.

    Args:
        arguments: parsed arguments of the verb.

    Returns:
        The exit code.

    Raises:
        UserError: if the study, training or Slurm would refuse a cell.
    """
    recipe = read_recipe_for_slurm(arguments)
    from mmgnn_dist.cluster.slurm.study import plan_array, submit_array
    from mmgnn_dist.cluster.slurm.submit import with_stage

    folder = arguments.dir or Path("runs") / recipe.name
    plan, cells = plan_array(recipe, arguments.profile, folder, arguments.concurrent, arguments.json)
    plan = with_stage(plan) if arguments.stage else plan
    jobs: list[Any] = []  # records of the runs, then that of the report; their keys differ
    if plan.runs:
        if arguments.dry_run:
            return print_dry_run(plan, arguments.profile, arguments.json)
        jobs = submit_array(plan, cells, recipe, arguments.profile, arguments.json)
    lines = [f"all {len(cells)} cells are done, nothing is submitted; mmgnn report {folder}"]
    if jobs:
        *runs, report = jobs
        done = f", {len(cells) - len(runs)} are done already" if len(runs) < len(cells) else ""
        lines = [
            *(f"job {job['job']}: {Path(job['run']).name}" for job in runs),
            f"{len(runs)} of {len(cells)} cells{done}; logs {plan.base}/slurm/JOB_0_log.out",
            *([told_successors(runs)] if plan.successors else []),
            f"job {report['job']}: report {report['report']}, after all others",
            f"follow: mmgnn status {folder}    mmgnn logs {runs[0]['run']} --follow",
            f"cancel: mmgnn cancel {folder}    continue: the same command",
        ]
    print_result(arguments.json, {"study": folder, "cells": len(cells), "jobs": jobs}, lines)
    return EXIT_DONE


def _submit(arguments: argparse.Namespace) -> int:
    recipe = read_recipe_for_slurm(arguments)
    from mmgnn_dist.cluster.slurm.submit import check_with_slurm, make_submit_plan, submit, with_stage

    base = arguments.run or Path("runs") / recipe.name
    plan = make_submit_plan(recipe, arguments.profile, base, arguments.folds, arguments.seeds, arguments.json)
    plan = with_stage(plan) if arguments.stage else plan
    if arguments.dry_run:
        return print_dry_run(plan, arguments.profile, arguments.json)
    check_with_slurm(plan, arguments.profile)
    jobs = submit(plan, arguments.profile, arguments.json)
    lines = [
        f"job {job['job']}: report {job['report']}, after all others"
        if "report" in job
        else f"job {job['job']}: run directory {job['run']}, log {job['log'].replace('%t', '0')}"
        for job in jobs
    ]
    if plan.successors:
        lines.append(told_successors(jobs))
    lines.append(f"follow: mmgnn status {plan.base}    mmgnn logs {next(iter(plan.runs))} --follow")
    lines.append(f"cancel: mmgnn cancel {plan.base}")
    print_result(arguments.json, {"jobs": jobs}, lines)
    return EXIT_DONE


def _found(given: list[Path]) -> tuple[list[Path], list[Path]]:
    """Find the submitted runs, and the outputs of commands in jobs, of what the user gives; else all.

    Raises:
        UserError: if a given folder is neither, and holds neither.
    """
    from mmgnn_dist.cluster.ray.command_status import find_commands
    from mmgnn_dist.cluster.slurm.status import find_runs, submitted_below

    if not given:
        return find_runs([], Path("runs")), find_commands([], map(Path, ("runs", "sweeps", "shards")))
    commands = {folder: find_commands([folder]) for folder in given}
    with_runs = [folder for folder in given if not commands[folder] or submitted_below(folder)]
    runs = find_runs(with_runs, Path("runs")) if with_runs else []
    return runs, list(dict.fromkeys(output for found in commands.values() for output in found))


def _status(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.ray.command_status import command_status, print_commands
    from mmgnn_dist.cluster.slurm.states import UNKNOWN
    from mmgnn_dist.cluster.slurm.status import print_status, status
    from mmgnn_dist.cluster.slurm.study_status import print_studies, study_status

    runs, outputs = _found(arguments.runs)
    states = status(runs)
    studies = study_status(runs, states)
    commands = command_status(outputs)

    def print_text() -> None:
        if states or not commands:
            print_status(states)
        print_studies(studies)
        print_commands(commands)

    print_result(arguments.json, {"runs": states, "studies": studies, "commands": commands}, print_text)
    if UNKNOWN in [run["state"] for run in states] + [command["state"] for command in commands]:
        raise UserError("Slurm does not answer, so states are unknown; the rest is from the run directories")
    return EXIT_DONE


def _logs(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.ray.command_status import command_goes_on, command_log
    from mmgnn_dist.cluster.slurm.status import follow_log, follow_run, log_end, log_tail

    if arguments.json and arguments.follow:
        raise UserError("--follow prints until the job ends, --json one object: give one of them")
    runs, outputs = _found([arguments.run])
    if len(runs) + len(outputs) > 1:
        raise UserError(
            f"{arguments.run} holds {len(runs) + len(outputs)} runs: name one, such as {[*runs, *outputs][0]}"
        )
    if runs:
        path, end = log_end(runs[0], arguments.rank, arguments.lines)
    else:
        path = command_log(outputs[0])
        end = log_tail(path, arguments.lines)
    result = {"run": [*runs, *outputs][0], "rank": arguments.rank, "log": path, "lines": end.splitlines()}
    print_result(arguments.json, result, lambda: print(end, end="", flush=True))
    if arguments.follow and runs:
        follow_run(runs[0], path)
    elif arguments.follow:
        follow_log(path, lambda: command_goes_on(outputs[0]))
    return EXIT_DONE


def _cancel(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.ray.command_status import cancel_commands
    from mmgnn_dist.cluster.slurm.status import cancel

    runs, outputs = _found(arguments.runs)
    cancelled = cancel(runs) + cancel_commands(outputs)
    line = (
        f"cancelled {', '.join(cancelled)}" if cancelled else "nothing to cancel: no job of these is active"
    )
    print_result(arguments.json, {"cancelled": cancelled}, [line])
    return EXIT_DONE


def _fetch_model(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.data.text.encoder_files import fetch_encoder

    files = fetch_encoder(arguments.model)
    lines = [
        f"{files.name}@{files.revision} is in {files.folder}",
        f"use it: text.encoder={files.name} text.revision={files.revision}",
    ]
    result = {"name": files.name, "revision": files.revision, "folder": files.folder}
    print_result(arguments.json, result, lines)
    return EXIT_DONE
