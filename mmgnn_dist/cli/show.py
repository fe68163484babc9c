"""The command-line verbs for looking at runs: show and compare."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmgnn_dist.cli.common import Verbs, add_json, print_result
from mmgnn_dist.errors import EXIT_DONE, UserError

PAGE = "page.html"


def add_verbs(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    show = verbs.add_parser("show", help="write a page of a run: errors, curves, parity, worst molecules")
    show.add_argument("run", type=Path, metavar="RUN", help="run directory; with --serve a folder of them")
    show.add_argument("--html", type=Path, metavar="FILE", help=f"where to write it (default RUN/{PAGE})")
    show.add_argument(
        "--serve", action="store_true", help="show runs in the browser, on this machine alone, until Ctrl-C"
    )
    show.add_argument("--port", type=int, help="with --serve (default: any free one)")
    add_json(show)
    show.set_defaults(action=_show)
    compare = verbs.add_parser(
        "compare", help="compare runs: a table of errors, and a page with their curves"
    )
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    compare.add_argument("--html", type=Path, metavar="FILE", help="also write a page")
    add_json(compare)
    compare.set_defaults(action=_compare)


def _show(arguments: argparse.Namespace) -> int:
    if arguments.port is not None and not arguments.serve:
        raise UserError("--port goes with --serve: without it a file is written")
    if arguments.serve:
        return _serve(arguments)
    from mmgnn_dist.show.read_run import read_run
    from mmgnn_dist.show.run_page import run_in_words, write_run_page

    shown = read_run(arguments.run)
    page = write_run_page(shown, arguments.html or arguments.run / PAGE)
    result = {"page": page, "summary": run_in_words(shown), "notes": shown.notes}
    print_result(arguments.json, result, [*run_in_words(shown), *shown.notes, f"page: {page}"])
    return EXIT_DONE


def _serve(arguments: argparse.Namespace) -> int:
    if arguments.json or arguments.html:
        raise UserError("--serve goes without --json and --html: it answers a browser until Ctrl-C")
    from mmgnn_dist.show.serve import make_server

    with make_server(arguments.run, arguments.port or 0) as server:
        print(f"http://{server.server_address[0]!s}:{server.server_address[1]}  (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)
    return EXIT_DONE


def _compare(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.show.compare import compare_runs, write_comparison_page
    from mmgnn_dist.show.read_run import read_run

    runs = [read_run(folder, with_data=False) for folder in arguments.runs]
    found = compare_runs(runs)
    names = [run.name for run in runs]
    page = write_comparison_page(runs, found, arguments.html) if arguments.html else None
    result = {"runs": arguments.runs, "errors": found.errors, "differ": found.differ, "notes": found.notes}

    def print_text() -> None:
        from mmgnn_dist.terminal import print_rows

        rows = [
            [key, *("–" if v is None else f"{v:.4g}" for v in values)] for key, values in found.errors.items()
        ]
        print_rows("test MAE", ["target", *names], rows)
        print_rows("where the recipes differ", ["key", *names], [[k, *v] for k, v in found.differ.items()])
        for line in (*found.notes, *([f"page: {page}"] if page else [])):
            print(line)

    print_result(arguments.json, result | {"page": page}, print_text)
    return EXIT_DONE
