"""The command line: `mmgnn VERB ...`. Every verb imports what it needs when it runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mmgnn_dist import __version__
from mmgnn_dist.cli import cluster as cluster_verbs
from mmgnn_dist.cli import doctor as verbs_doctor
from mmgnn_dist.cli import study_places as verbs_study
from mmgnn_dist.cli import sweep as verbs_sweep
from mmgnn_dist.cli import sync as train_verbs
from mmgnn_dist.cli.plan import add_plan
from mmgnn_dist.cli.predict import add_predict
from mmgnn_dist.cli.study import add_verbs as add_study_verbs
from mmgnn_dist.errors import EXIT_DONE, EXIT_STOPPED, EXIT_USER, EXTRAS, UserError, need
from mmgnn_dist.progress import quiet_libraries


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 wrong input, 3 stopped and can continue."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes no positional words after an option: overrides may stand anywhere
    late = [word for word in rest if "=" in word and not word.startswith("-")]
    if len(late) < len(rest) or (late and not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if late:
        arguments.overrides = [*arguments.overrides, *late]
    try:
        return int(arguments.action(arguments))
    except UserError as error:
        print(f"mmgnn: {error}", file=sys.stderr)
        return EXIT_USER
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if name not in EXTRAS:
            raise
        print(f"mmgnn: {need(name, EXTRAS[name])}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("mmgnn: interrupted; the same command continues", file=sys.stderr)
        return EXIT_STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmgnn", description="Train models that read a molecule as a 3D graph and as text."
    )
    parser.add_argument("--version", action="version", version=f"mmgnn_dist {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    data = verbs.add_parser("data", help="prepare shard sets and splits")
    kinds = data.add_subparsers(title="verbs", required=True, metavar="VERB")
    prepare = kinds.add_parser("prepare", help="make a shard set from files of molecules")
    prepare.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="file, archive or folder of Parquet, XYZ, SD, CSV or ASE database files; "
        "'sample': bundled data; or key=value",
    )
    prepare.add_argument(
        "--text", action="append", type=Path, default=[], metavar="FILE", help="table of text fields to join"
    )
    prepare.add_argument("--to", type=Path, required=True, metavar="SHARDS", help="folder to make")
    prepare.add_argument("--recipe", type=Path, help="recipe whose data section applies")
    prepare.add_argument("--json", action="store_true", help="print one JSON object")
    prepare.set_defaults(action=_prepare, overrides=[])

    enrich = kinds.add_parser("enrich", help="find PubChem's text for molecules, for prepare --text")
    enrich.add_argument(
        "source", type=Path, metavar="SHARDS|FILE", help="shard set, or Parquet file with a column inchikey"
    )
    enrich.add_argument(
        "overrides", nargs="*", metavar="key=value", help="override the recipe, e.g. data.pubchem.cache=FILE"
    )
    enrich.add_argument("--to", type=Path, required=True, metavar="FILE", help="Parquet file to make")
    enrich.add_argument("--base-url", metavar="URL", help="another address of PUG REST (a mirror)")
    enrich.add_argument(
        "--bulk", type=Path, metavar="FOLDER", help="read PubChem's CID-*.gz there, ask no service"
    )
    enrich.add_argument(
        "--max-age", metavar="DAYS", help="ask again what PubChem did not have so long ago (default 90)"
    )
    enrich.add_argument("--recipe", type=Path, help="recipe whose data.pubchem section applies")
    enrich.add_argument("--json", action="store_true", help="print one JSON object")
    enrich.set_defaults(action=_enrich)

    fetch = kinds.add_parser("fetch", help="download a published data set, or continue to")
    fetch.add_argument("what", choices=("qm9",))
    fetch.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to put its files in")
    fetch.add_argument(
        "--url", action="append", default=[], metavar="URL", help="a mirror that has the files under URL/NAME"
    )
    fetch.add_argument("--json", action="store_true", help="print one JSON object")
    fetch.set_defaults(action=_fetch)

    split = kinds.add_parser("split", help="store a split of a shard set")
    split.add_argument("shards", type=Path, metavar="SHARDS")
    split.add_argument(
        "--kind",
        choices=("random", "kfold", "scaffold", "size"),
        default="random",
        help="80/10/10 at random, by scaffold or by size, or k test folds",
    )
    split.add_argument("--folds", type=int, help="default: 3 for kfold, 1 for random")
    split.add_argument("--seed", type=int, default=42, help="default 42")
    split.add_argument(
        "--group",
        choices=("identity", "none"),
        default="identity",
        help="identity (default): molecules of one InChIKey first block stay together",
    )
    split.add_argument("--name", help="default: the kind")
    split.set_defaults(action=_split)

    audit = kinds.add_parser("audit", help="what the parts of splits share; exit code 2 above a threshold")
    audit.add_argument("shards", type=Path, metavar="SHARDS")
    audit.add_argument("--split", action="append", metavar="NAME", help="default: every stored split")
    audit.add_argument("--fields", nargs="+", metavar="FIELD", help="fields that make a text (default: all)")
    for way, default in (("identity", "0"), ("scaffold", "0 for scaffold splits, else 1"), ("text", "1")):
        audit.add_argument(
            f"--max-{way}",
            type=float,
            metavar="SHARE",
            help=f"largest share of a part whose {way} an earlier part has (default {default})",
        )
    audit.add_argument("--json", action="store_true", help="print one JSON object")
    audit.set_defaults(action=_audit)

    inspect = kinds.add_parser("inspect", help="counts, coverage, distributions, quarantine of a shard set")
    inspect.add_argument("shards", type=Path, metavar="SHARDS")
    inspect.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    inspect.add_argument("--recipe", type=Path, help="recipe whose text section says how text is tokenised")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    inspect.set_defaults(action=_inspect)

    train = verbs.add_parser("train", help="train a recipe, or continue where it stopped")
    train.add_argument("recipe", type=Path, metavar="RECIPE")
    train.add_argument(
        "overrides", nargs="*", metavar="key=value", help="override the recipe, e.g. train.epochs=5"
    )
    train.add_argument("--run", type=Path, metavar="DIR", help="run directory (default runs/NAME)")
    train.add_argument("--nproc", type=int, default=1, metavar="N", help="ranks on this machine (default 1)")
    train.add_argument(
        "--dry-run", action="store_true", help="check everything, tell parameters, FLOP and memory, and stop"
    )
    train.add_argument("--json", action="store_true", help="print one JSON object")
    train.set_defaults(action=_train)

    evaluate = verbs.add_parser("evaluate", help="test a finished run, or apply it to other molecules")
    evaluate.add_argument("run", type=Path, metavar="RUN")
    evaluate.add_argument(
        "--data", type=Path, metavar="SHARDS", help="another shard set (default: the run's test part)"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.set_defaults(action=_evaluate)

    for module in (train_verbs, cluster_verbs, verbs_sweep, verbs_doctor):
        module.add_verbs(verbs)
    add_predict(verbs)
    add_plan(verbs)
    verbs_study.add_places(add_study_verbs(verbs))

    bench = verbs.add_parser("bench", help="measure side by side")
    bench.add_argument("what", choices=("loader", "checkpoint"))
    bench.add_argument("--shards", type=Path, required=True, metavar="SHARDS")
    bench.add_argument(
        "--fields", nargs="+", metavar="FIELD", help="text fields to carry (default: formula and numbers)"
    )
    bench.add_argument("--batch", type=int, default=64, help="default 64")
    bench.add_argument("--repeats", type=int, default=5, help="default 5")
    bench.add_argument("--steps", type=int, default=50, help="between two checkpoints; default 50")
    bench.set_defaults(action=_bench)
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.ray.allocation import ray_around
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.data.prepare.pipeline import prepare
    from mmgnn_dist.progress import Progress

    given = [source for source in arguments.sources if "=" in source and not Path(source).exists()]
    sources = [source for source in arguments.sources if source not in given]
    recipe = load_recipe(arguments.recipe, [*given, *arguments.overrides])
    with Progress("prepare", quiet=arguments.json) as progress:
        result = prepare(sources, arguments.to, arguments.text, recipe.data, progress, around=ray_around)
    if arguments.json:
        print(json.dumps(result.counts))
    else:
        for line in result.lines:
            print(line)
    return EXIT_DONE


def _enrich(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.progress import Progress
    from mmgnn_dist.pubchem.client import ServiceDown

    options = {"base_url": arguments.base_url, "max_age": arguments.max_age}
    given = [f"data.pubchem.{name}={value}" for name, value in options.items() if value is not None]
    if arguments.bulk and given:
        raise UserError("--bulk asks no service: leave out --base-url and --max-age")
    data = load_recipe(arguments.recipe, [*arguments.overrides, *given]).data
    with Progress("enrich", quiet=arguments.json) as progress:
        if arguments.bulk:
            from mmgnn_dist.pubchem.bulk import enrich_bulk

            result = enrich_bulk(
                arguments.source, arguments.to, arguments.bulk, data.workers, progress, progress.say
            )
        else:
            from mmgnn_dist.pubchem.enrich import enrich

            try:
                result = enrich(arguments.source, arguments.to, data.pubchem, progress, progress.say)
            except ServiceDown as error:
                print(f"mmgnn: {error}", file=sys.stderr)
                return EXIT_STOPPED
    if arguments.json:
        print(json.dumps(result.counts))
    else:
        for line in result.lines:
            print(line)
    return EXIT_DONE


def _fetch(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.data.prepare.download import QM9, fetch
    from mmgnn_dist.progress import Progress

    with Progress("fetch", quiet=arguments.json) as progress:
        paths = fetch(QM9, arguments.to, arguments.url, progress)
    if arguments.json:
        print(json.dumps({"files": [str(path) for path in paths]}))
    else:
        print(f"next: mmgnn data prepare {paths[0]} --to SHARDS")
    return EXIT_DONE


def _split(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.data.shardset.shards import ShardSet
    from mmgnn_dist.data.shardset.splits import make_split

    folds = arguments.folds or (3 if arguments.kind == "kfold" else 1)
    shards = ShardSet.open(arguments.shards)
    path, new = make_split(shards, arguments.kind, folds, arguments.seed, arguments.group, arguments.name)
    print(f"split written to {path}" if new else f"{path} is up to date: the same split stands there already")
    return EXIT_DONE


def _audit(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config import TEXT_FIELDS
    from mmgnn_dist.data.inspect.audit import WAYS, above_limits, audit
    from mmgnn_dist.data.inspect.overview import print_audit
    from mmgnn_dist.data.shardset.groups import count_identities
    from mmgnn_dist.data.shardset.shards import ShardSet

    shards = ShardSet.open(arguments.shards)
    overlaps = audit(shards, arguments.split, arguments.fields or TEXT_FIELDS)
    most = {way: getattr(arguments, f"max_{way}") for way in WAYS}
    above = above_limits(shards, overlaps, most)
    by_id = count_identities(shards)["id"]
    if arguments.json:
        shares = [vars(o) | {"share": o.share} for o in overlaps]
        print(json.dumps({"overlaps": shares, "above": above, "by_id_alone": by_id}))
    else:
        print_audit(overlaps, by_id)
    if above:
        more = f", and {len(above) - 1} more" if len(above) > 1 else ""
        options = ", ".join(f"--max-{way}" for way in WAYS)
        raise UserError(f"{above[0]}{more}: take another split, or allow more ({options})")
    return EXIT_DONE


def _inspect(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.data.inspect.overview import look, print_overview
    from mmgnn_dist.data.inspect.page import write_page
    from mmgnn_dist.data.shardset.shards import ShardSet

    shards = ShardSet.open(arguments.shards)
    overview = look(shards, load_recipe(arguments.recipe).text)
    if arguments.html:
        write_page(arguments.html, overview)
    if arguments.json:
        print(json.dumps(overview))
    else:
        print_overview(overview)
        if arguments.html:
            print(f"page written to {arguments.html}")
    return EXIT_DONE


def _train(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.nproc < 1:
        raise UserError(f"--nproc {arguments.nproc}: give at least one rank")
    quiet_libraries()
    if not arguments.json:
        print("loading libraries", file=sys.stderr)
    folder = arguments.run or Path("runs") / recipe.name
    if arguments.dry_run:
        from mmgnn_dist.plan.dry_run import summarise_recipe
        from mmgnn_dist.plan.dry_run_table import print_summary

        found = summarise_recipe(recipe, folder, arguments.nproc, arguments.json)
        if arguments.json:
            print(json.dumps({"runs": found}))
        else:
            print_summary(found)
        return EXIT_DONE
    from mmgnn_dist.train.session import train_with_twins

    return train_with_twins(recipe, folder, arguments.nproc, arguments.json)


def _evaluate(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    from mmgnn_dist.train.session import evaluate_run

    metrics = evaluate_run(arguments.run, arguments.data, arguments.json)
    if arguments.json:
        print(json.dumps(metrics))
    return EXIT_DONE


def _bench(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    if arguments.what == "checkpoint":
        from mmgnn_dist.bench.checkpoint import checkpoint_bench, print_checkpoint_bench

        measured = checkpoint_bench(arguments.shards, arguments.batch, arguments.steps, arguments.repeats)
        print_checkpoint_bench(measured)
        return EXIT_DONE
    from mmgnn_dist.bench.loader import BENCH_FIELDS, loader_bench, print_loader_bench

    fields = arguments.fields or BENCH_FIELDS
    result = loader_bench(arguments.shards, fields=fields, batch=arguments.batch, repeats=arguments.repeats)
    print_loader_bench(result)
    return EXIT_DONE
