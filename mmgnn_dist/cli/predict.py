"""The verbs of the command line for trained models: predict and export."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import EXIT_DONE
from mmgnn_dist.progress import quiet_libraries


def add_predict(verbs: Any) -> None:
    """Add the parsers."""
    predict = verbs.add_parser("predict", help="apply a trained model to molecules of a file")
    predict.add_argument("run", type=Path, metavar="RUN", help="run directory, or a folder of 'mmgnn export'")
    predict.add_argument("sources", nargs="+", metavar="SOURCE", help="as 'data prepare' takes them")
    predict.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help=".parquet or .csv")
    predict.add_argument(
        "--text", type=Path, action="append", default=[], metavar="FILE", help="table of text"
    )
    predict.add_argument("--set", nargs="+", default=[], metavar="key=value", help="override the recipe")
    predict.add_argument("--json", action="store_true", help="print one JSON object")
    predict.set_defaults(action=_predict)
    export = verbs.add_parser("export", help="copy a trained model to a folder of its own")
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("to", type=Path, metavar="DIR")
    export.set_defaults(action=_export)


def _predict(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    from mmgnn_dist.predict.molecules import predict_molecules

    done = predict_molecules(
        arguments.run, arguments.sources, arguments.out, arguments.text, arguments.set, arguments.json
    )
    if arguments.json:
        aside = str(done.aside) if done.aside else None
        told = {"out": str(done.out), "units": done.units, **done.counts, "aside": aside, "notes": done.notes}
        print(json.dumps(told))
        return EXIT_DONE
    counts, units = done.counts, ", ".join(f"{name} in {unit}" for name, unit in done.units.items())
    print(f"{counts['in']} in, {counts['kept']} predicted, {counts['set_aside']} set aside")
    for note in done.notes:
        print(note)
    if done.aside:
        print(f"set aside, with reasons: {done.aside}")
    print(f"{done.out}: {units}")
    return EXIT_DONE


def _export(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    from mmgnn_dist.predict.bundle import export_run

    to = export_run(arguments.run, arguments.to)
    print(f"{to}: apply it with 'mmgnn predict {to} FILE -o OUT'")
    return EXIT_DONE
