"""The command-line verbs for runs: train, evaluate, sync and verify."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from mmgnn_dist.cli.common import Verbs, add_json, add_recipe, print_result, read_recipe
from mmgnn_dist.errors import EXIT_DONE, UserError
from mmgnn_dist.progress import quiet_libraries


def add_verbs(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    train = verbs.add_parser("train", help="train a recipe, or continue where it stopped")
    add_recipe(train)
    train.add_argument("--run", type=Path, metavar="DIR", help="run directory (default runs/NAME)")
    train.add_argument("--nproc", type=int, default=1, metavar="N", help="ranks on this machine (default 1)")
    train.add_argument(
        "--dry-run", action="store_true", help="check everything, print parameters, FLOP and memory, and stop"
    )
    add_json(train)
    train.set_defaults(continues=True, action=_train)

    evaluate = verbs.add_parser("evaluate", help="test a finished run, or apply it to other molecules")
    evaluate.add_argument("run", type=Path, metavar="RUN")
    evaluate.add_argument(
        "--data", type=Path, metavar="SHARDS", help="another shard set (default: the run's test part)"
    )
    evaluate.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="DIR",
        help="with --data: folder of predictions and metrics (default RUN/evaluations/NAME)",
    )
    add_json(evaluate)
    evaluate.set_defaults(action=_evaluate)

    sync = verbs.add_parser("sync", help="write a run's W&B record again from its journal, every step once")
    sync.add_argument("run", type=Path, metavar="RUN")
    sync.add_argument("--online", action="store_true", help="also upload it (key: WANDB_API_KEY)")
    add_json(sync)
    sync.set_defaults(continues=True, action=_sync)

    verify = verbs.add_parser("verify", help="check the records of a run and recompute its steps")
    verify.add_argument("run", type=Path, metavar="RUN")
    verify.add_argument(
        "--steps",
        default=":",
        metavar="A:B",
        help="recompute these steps, from the newest checkpoint before them (default: all; none: no step)",
    )
    verify.add_argument(
        "--nproc", type=int, metavar="N", help="ranks on this machine (default: as many as made the steps)"
    )
    add_json(verify)
    verify.set_defaults(action=_verify)


def _train(arguments: argparse.Namespace) -> int:
    recipe = read_recipe(arguments)
    if arguments.nproc < 1:
        raise UserError(f"--nproc {arguments.nproc}: give at least one rank")
    quiet_libraries()
    if not arguments.json:
        print("loading libraries", file=sys.stderr)
    folder = arguments.run or Path("runs") / recipe.name
    if arguments.dry_run:
        from mmgnn_dist.plan.dry_run import summarise_recipe
        from mmgnn_dist.plan.dry_run_table import print_summary

        summaries = summarise_recipe(recipe, folder, arguments.nproc, arguments.json)
        print_result(arguments.json, {"runs": summaries}, lambda: print_summary(summaries))
        return EXIT_DONE
    from mmgnn_dist.train.session import train_with_twins

    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():  # libraries may print notes
        code, table = train_with_twins(recipe, folder, arguments.nproc, quiet=arguments.json)
    if table or arguments.json:
        rows = [row.values() for row in table.rows] if table else None
        print_result(arguments.json, {"run": str(folder), "table": rows}, table.show if table else [])
    return code


def _evaluate(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    from mmgnn_dist.train.application.evaluation import evaluate_run

    if arguments.out and not arguments.data:
        raise UserError("--out goes with --data: without it nothing is written")
    evaluated = evaluate_run(arguments.run, arguments.data, quiet=arguments.json, out=arguments.out)
    more = {
        "trained_on": evaluated.trained_on,
        "unknown": evaluated.unknown,
        "notes": evaluated.notes,
        **evaluated.coverages(),
    }
    print_result(arguments.json, evaluated.metrics | more, evaluated.lines())
    return EXIT_DONE


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.nproc is not None and arguments.nproc < 1:
        raise UserError(f"--nproc {arguments.nproc}: give at least one rank")
    quiet_libraries()
    from mmgnn_dist.train.verify.verify import verify_run

    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():  # libraries may print notes
        found = verify_run(arguments.run, arguments.steps, arguments.nproc, quiet=arguments.json)
    print_result(arguments.json, found.values(), found.lines())
    return found.exit_code


def _sync(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.train.tracking.wandb_sync import sync

    synced = sync(arguments.run, arguments.online)
    state = "finished" if synced["finished"] else "not finished"
    upload = f"upload: WANDB_API_KEY=... mmgnn sync {arguments.run} --online"
    lines = [
        f"{synced['steps']} new steps, up to step {synced['last']} ({state}), W&B run {synced['id']}",
        *(f"  {path}" for path in synced["segments"]),
        "uploaded" if synced["uploaded"] else upload,
    ]
    print_result(arguments.json, synced, lines)
    return EXIT_DONE
