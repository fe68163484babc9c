"""The command-line verbs for shard sets: data prepare, enrich, fetch, split, audit, inspect."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgnn_dist.cli.common import (
    Verbs,
    add_json,
    add_overrides,
    print_result,
    read_recipe,
    split_sources,
    yaml_file,
)
from mmgnn_dist.errors import EXIT_DONE, UserError, nearest
from mmgnn_dist.progress import quiet_libraries


def add_verbs(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    data = verbs.add_parser("data", help="prepare shard sets and splits")
    kinds = data.add_subparsers(title="verbs", required=True, metavar="VERB")
    _add_prepare(kinds)
    _add_enrich(kinds)
    _add_fetch(kinds)
    _add_split(kinds)
    _add_audit(kinds)
    _add_inspect(kinds)


def _add_prepare(kinds: Verbs) -> None:
    prepare = kinds.add_parser("prepare", help="make a shard set from files of molecules")
    prepare.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="file, archive or folder of Parquet, XYZ, SD, CSV, HDF5, npz or ASE database files; "
        "'sample': bundled data; or key=value",
    )
    prepare.add_argument(
        "--text", action="append", type=Path, default=[], metavar="FILE", help="table of text fields to join"
    )
    prepare.add_argument("--to", type=Path, required=True, metavar="SHARDS", help="folder to make")
    prepare.add_argument("--recipe", type=yaml_file, help="recipe whose data section applies")
    add_json(prepare)
    prepare.set_defaults(continues=True, action=_prepare, overrides=[])


def _add_enrich(kinds: Verbs) -> None:
    enrich = kinds.add_parser("enrich", help="find PubChem's text for molecules, for prepare --text")
    enrich.add_argument(
        "source", type=Path, metavar="SHARDS|FILE", help="shard set, or Parquet file with a column inchikey"
    )
    add_overrides(enrich, "data.pubchem.cache=FILE")
    enrich.add_argument("--to", type=Path, required=True, metavar="FILE", help="Parquet file to make")
    enrich.add_argument("--base-url", metavar="URL", help="another address of PUG REST (a mirror)")
    enrich.add_argument(
        "--bulk", type=Path, metavar="FOLDER", help="read PubChem's CID-*.gz there and ask no service"
    )
    enrich.add_argument(
        "--max-age",
        metavar="DAYS",
        help="ask again after so many days for what PubChem did not have (default 90)",
    )
    enrich.add_argument("--recipe", type=yaml_file, help="recipe whose data.pubchem section applies")
    add_json(enrich)
    enrich.set_defaults(continues=True, action=_enrich)


def _add_fetch(kinds: Verbs) -> None:
    fetch = kinds.add_parser("fetch", help="download a published data set, or continue a download")
    fetch.add_argument("what", choices=("qm9", "pcqm4mv2"))
    fetch.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to put its files in")
    fetch.add_argument(
        "--url", action="append", default=[], metavar="URL", help="a mirror that has the files under URL/NAME"
    )
    add_json(fetch)
    fetch.set_defaults(continues=True, action=_fetch)


def _add_split(kinds: Verbs) -> None:
    split = kinds.add_parser("split", help="store a split of a shard set")
    split.add_argument("shards", type=Path, metavar="SHARDS")
    split.add_argument(
        "--kind",
        choices=("random", "kfold", "scaffold", "size", "replicates"),
        default="random",
        help="80/10/10 at random, by scaffold or by size, k test folds, or one test part with disjoint "
        "training parts",
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
    for part in ("train", "val", "test"):
        split.add_argument(f"--{part}", type=int, metavar="N", help=f"replicates: molecules of {part}")
    add_json(split)
    split.set_defaults(action=_split)


def _add_audit(kinds: Verbs) -> None:
    audit = kinds.add_parser(
        "audit", help="find leaks, and measure what the parts of splits share; exit code 2 above a limit"
    )
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
    audit.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="KIND",
        help="kind of leak that does not lead to exit code 2, such as 'labels in digits'",
    )
    add_json(audit)
    audit.set_defaults(action=_audit)


def _add_inspect(kinds: Verbs) -> None:
    inspect = kinds.add_parser(
        "inspect", help="show counts, coverage, distributions, quarantine of a shard set"
    )
    inspect.add_argument("shards", type=Path, metavar="SHARDS")
    add_overrides(inspect, "text.field_tokens=32")
    inspect.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    inspect.add_argument(
        "--recipe", type=yaml_file, help="recipe whose text section says how text is tokenised"
    )
    add_json(inspect)
    inspect.set_defaults(action=_inspect)


def _prepare(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.cluster.ray.allocation import ray_around
    from mmgnn_dist.cluster.ray.command import noted_command
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.data.prepare.pipeline import prepare
    from mmgnn_dist.progress import Progress

    sources, overrides = split_sources(arguments)
    recipe = load_recipe(arguments.recipe, overrides)
    with Progress("prepare", quiet=arguments.json) as progress, noted_command(arguments.to, "preparation"):
        result = prepare(sources, arguments.to, arguments.text, recipe.data, progress, around=ray_around)
    print_result(arguments.json, result.counts, result.lines)
    return EXIT_DONE


def _enrich(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config import load_recipe
    from mmgnn_dist.progress import Progress

    options = {"base_url": arguments.base_url, "max_age": arguments.max_age}
    from_options = [f"data.pubchem.{name}={value}" for name, value in options.items() if value is not None]
    if arguments.bulk and from_options:
        raise UserError("--bulk asks no service: leave out --base-url and --max-age")
    data = load_recipe(arguments.recipe, [*arguments.overrides, *from_options]).data
    with Progress("enrich", quiet=arguments.json) as progress:
        if arguments.bulk:
            from mmgnn_dist.pubchem.bulk import enrich_bulk

            result = enrich_bulk(
                arguments.source, arguments.to, arguments.bulk, data.workers, progress, progress.say
            )
        else:
            from mmgnn_dist.pubchem.enrich import enrich

            result = enrich(arguments.source, arguments.to, data.pubchem, progress, progress.say)
    print_result(arguments.json, result.counts, result.lines)
    return EXIT_DONE


def _fetch(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.data.prepare.download import PCQM4MV2, QM9, fetch
    from mmgnn_dist.progress import Progress

    with Progress("fetch", quiet=arguments.json) as progress:
        files = {"qm9": QM9, "pcqm4mv2": PCQM4MV2}[arguments.what]
        paths = fetch(files, arguments.to, arguments.url, progress)
    print_result(arguments.json, {"files": paths}, [f"next: mmgnn data prepare {paths[0]} --to SHARDS"])
    return EXIT_DONE


def _split(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.data.shardset.replicates import ReplicateSizes
    from mmgnn_dist.data.shardset.shards import ShardSet
    from mmgnn_dist.data.shardset.splits import make_split

    folds = arguments.folds or (3 if arguments.kind == "kfold" else 1)
    shards = ShardSet.open(arguments.shards)
    given = [arguments.train, arguments.val, arguments.test]
    if any(number is not None for number in given) and None in given:
        raise UserError("give all of --train, --val and --test, with --kind replicates, or none of them")
    parts = None if None in given else ReplicateSizes(*given)
    path, new = make_split(
        shards, arguments.kind, folds, arguments.seed, arguments.group, arguments.name, parts
    )
    line = f"split written to {path}" if new else f"{path} is up to date: it holds the same split already"
    print_result(arguments.json, {"split": path, "written": new}, [line])
    return EXIT_DONE


def _audit(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.data.inspect.audit import WAYS, above_limits, audit
    from mmgnn_dist.data.inspect.leaks.search import KINDS, search_leaks
    from mmgnn_dist.data.inspect.overview import print_audit
    from mmgnn_dist.data.shardset.groups import count_identities
    from mmgnn_dist.data.shardset.shards import ShardSet
    from mmgnn_dist.data.shardset.splits import split_names

    for kind in arguments.allow:
        if kind not in KINDS:
            raise UserError(
                f"--allow: no kind of leak '{kind}'{nearest(kind, KINDS)}; there are: {', '.join(KINDS)}"
            )
    shards = ShardSet.open(arguments.shards)
    overlaps = audit(shards, arguments.split, arguments.fields)
    limits = {way: getattr(arguments, f"max_{way}") for way in WAYS}
    above = above_limits(shards, overlaps, limits)
    by_id = count_identities(shards)["id"]
    findings = search_leaks(shards, arguments.split or split_names(shards))
    above += [
        finding.sentence
        for finding in findings
        if finding.severity != "doubt" and finding.kind not in arguments.allow
    ]
    shares = [vars(overlap) | {"share": overlap.share} for overlap in overlaps]
    result = {
        "overlaps": shares,
        "findings": [vars(finding) for finding in findings],
        "above": above,
        "by_id_alone": by_id,
    }
    print_result(arguments.json, result, lambda: print_audit(overlaps, findings, by_id))
    if above:
        more = f", and {len(above) - 1} more" if len(above) > 1 else ""
        options = ", ".join([*(f"--max-{way}" for way in WAYS), "--allow"])
        raise UserError(f"{above[0]}{more}: take another split, or allow more ({options})")
    return EXIT_DONE


def _inspect(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    from mmgnn_dist.data.inspect.overview import look, print_overview
    from mmgnn_dist.data.inspect.page import write_page
    from mmgnn_dist.data.shardset.shards import ShardSet

    shards = ShardSet.open(arguments.shards)
    overview = look(shards, read_recipe(arguments).text)
    if arguments.html:
        write_page(arguments.html, overview)

    def print_text() -> None:
        print_overview(overview)
        if arguments.html:
            print(f"page written to {arguments.html}")

    print_result(arguments.json, overview, print_text)
    return EXIT_DONE
