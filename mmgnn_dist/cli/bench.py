"""The command-line verb for measurements: bench."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgnn_dist.cli.common import Verbs, add_json, print_result
from mmgnn_dist.errors import EXIT_DONE
from mmgnn_dist.progress import quiet_libraries


def add_verbs(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    bench = verbs.add_parser("bench", help="measure training, the loader or checkpoints side by side")
    bench.add_argument("what", choices=("train", "loader", "checkpoint"))
    bench.add_argument("--shards", type=Path, required=True, metavar="SHARDS")
    bench.add_argument(
        "--fields", nargs="+", metavar="FIELD", help="text fields to carry (default: formula and numbers)"
    )
    bench.add_argument("--batch", type=int, default=64, help="default 64")
    bench.add_argument("--repeats", type=int, default=5, help="default 5")
    bench.add_argument("--steps", type=int, default=50, help="between two checkpoints; default 50")
    bench.add_argument(
        "--backbones",
        nargs="+",
        metavar="NAME",
        help="of train: schnet, dimenetpp_paper, dimenetpp, painn, fused",
    )
    bench.add_argument("--batches", nargs="+", type=int, default=[64, 256], help="of train; default 64 256")
    bench.add_argument("--threads", type=int, default=1, help="of train; default 1")
    add_json(bench)
    bench.set_defaults(action=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    if arguments.what == "train":
        return _bench_train(arguments)
    if arguments.what == "checkpoint":
        from mmgnn_dist.bench.checkpoint import checkpoint_bench, print_checkpoint_bench

        measured = checkpoint_bench(arguments.shards, arguments.batch, arguments.steps, arguments.repeats)
        print_result(arguments.json, measured, lambda: print_checkpoint_bench(measured))
        return EXIT_DONE
    from mmgnn_dist.bench.loader import BENCH_FIELDS, loader_bench, print_loader_bench

    fields = arguments.fields or BENCH_FIELDS
    result = loader_bench(arguments.shards, fields=fields, batch=arguments.batch, repeats=arguments.repeats)
    print_result(arguments.json, result, lambda: print_loader_bench(result))
    return EXIT_DONE


def _bench_train(arguments: argparse.Namespace) -> int:
    from importlib.util import find_spec

    from mmgnn_dist.bench.train import PEER_PACKAGES, SETTINGS, train_bench, train_bench_markdown

    result = train_bench(
        arguments.shards,
        arguments.backbones or [name for name in SETTINGS if find_spec(PEER_PACKAGES.get(name, "torch"))],
        arguments.batches,
        arguments.repeats,
        threads=arguments.threads,
    )
    print_result(arguments.json, result, [train_bench_markdown(result)])
    return EXIT_DONE
