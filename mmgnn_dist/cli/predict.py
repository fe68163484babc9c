"""The command-line verbs for trained models: predict and export."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mmgnn_dist.cli.common import Verbs, add_json, print_result, split_sources
from mmgnn_dist.errors import EXIT_DONE, UserError
from mmgnn_dist.progress import quiet_libraries, remaining

if TYPE_CHECKING:
    from mmgnn_dist.predict.preparation import Asked


def add_verbs(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    predict = verbs.add_parser("predict", help="apply a trained model to molecules of a file")
    predict.add_argument("run", type=Path, metavar="RUN", help="run directory, or a folder of 'mmgnn export'")
    predict.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="as 'data prepare' takes them, or a shard set; - for lines of SMILES and names; or key=value",
    )
    predict.add_argument("-o", "--out", type=Path, metavar="OUT", help=".parquet, .csv, .jsonl or .sdf")
    predict.add_argument("--nproc", type=int, default=1, metavar="N", help="processes on this machine")
    predict.add_argument(
        "--dry-run", action="store_true", help="predict a few molecules, and tell rate, time and size of OUT"
    )
    predict.add_argument(
        "--smiles", action="append", metavar="SMILES", help="one molecule, whose predictions are printed"
    )
    predict.add_argument(
        "--text", type=Path, action="append", default=[], metavar="FILE", help="table of text"
    )
    predict.add_argument(
        "--level",
        type=float,
        default=0.9,
        metavar="P",
        help="share of molecules that the intervals cover: 0.5, 0.8, 0.9 (default), 0.95 or 0.99",
    )
    add_json(predict)
    predict.set_defaults(action=_predict, overrides=[], continues=True)
    export = verbs.add_parser("export", help="copy a trained model to a folder of its own")
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("to", type=Path, metavar="DIR")
    add_json(export)
    export.set_defaults(action=_export)


def _predict(arguments: argparse.Namespace) -> int:
    sources, overrides = split_sources(arguments)
    if arguments.smiles:
        if sources or arguments.out or arguments.text:
            raise UserError("--smiles is printed: give it without SOURCE, --out and --text")
        return _print_smiles(arguments, overrides)
    if arguments.nproc < 1:
        raise UserError(f"--nproc {arguments.nproc}: give 1 or more processes")
    if not sources or not arguments.out:
        raise UserError("give at least one SOURCE and -o OUT, or --smiles 'CCO' for one molecule")
    quiet_libraries()
    from mmgnn_dist.predict.molecules import predict_molecules
    from mmgnn_dist.predict.preparation import Asked

    asked = Asked(arguments.text, overrides, arguments.level, quiet=arguments.json, nproc=arguments.nproc)
    with TemporaryDirectory(prefix="mmgnn-input-") as folder:
        sources = [_standard_input(Path(folder)) if source == "-" else source for source in sources]
        if arguments.dry_run:
            return _print_forecast(arguments, sources, asked)
        predicted = predict_molecules(arguments.run, sources, arguments.out, asked)
    counts = predicted.counts
    units = ", ".join(
        f"{name} in {unit}" if unit else f"{name} with probabilities"
        for name, unit in predicted.units.items()
    )
    result = {
        "out": predicted.out,
        "units": predicted.units,
        **counts,
        "aside": predicted.aside,
        "notes": predicted.notes,
    }
    lines = [
        f"{counts['in']} in, {counts['kept']} predicted, {counts['set_aside']} set aside",
        *predicted.notes,
        *([f"set aside, with reasons: {predicted.aside}"] if predicted.aside else []),
        f"{predicted.out}: {units}",
    ]
    print_result(arguments.json, result, lines)
    return EXIT_DONE


def _standard_input(folder: Path) -> str:
    """Keep the lines of standard input in a file that the readers take."""
    path = folder / "stdin.smi"
    with open(path, "wb") as lines:
        shutil.copyfileobj(sys.stdin.buffer, lines)
    return str(path)


def _print_forecast(arguments: argparse.Namespace, sources: list[str], asked: Asked) -> int:
    """Print what a prediction will take."""
    from mmgnn_dist.predict.forecast import forecast

    found = forecast(arguments.run, sources, arguments.out, asked)
    lines = [
        f"{found.rows:,} rows in {found.portions:,} portions, {found.nproc} processes",
        f"{found.rate:,.0f} rows/s a process, measured on the first {found.measured}",
        f"{remaining(1, 1, max(1, round(found.seconds)))}, {found.bytes / 1e6:,.1f} MB for {arguments.out}",
    ]
    print_result(arguments.json, asdict(found), lines)
    return EXIT_DONE


def _print_smiles(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print the predictions for SMILES, one line a value."""
    quiet_libraries()
    from mmgnn_dist.api.model import load_model

    model = load_model(arguments.run)
    rows = model.predict(arguments.smiles, level=arguments.level, overrides=overrides).to_pylist()
    lines = []
    for smiles, row in zip(arguments.smiles, rows, strict=True):
        row["id"] = smiles
        lines.append(f"{smiles}: {row['reason']}" if row["reason"] else smiles)
        for name, unit in model.units.items() if not row["reason"] else ():
            low, high, value = row.get(f"{name}_low"), row.get(f"{name}_high"), row[name]
            between = "" if low is None else f"  ({arguments.level:.0%}: {low:.6g} to {high:.6g})"
            lines.append(
                f"  {name:12s} {value if isinstance(value, str) else f'{value:.6g}'} {unit}{between}"
            )
        lines += [f"  {row['flags']}"] if row["flags"] else []
    print_result(arguments.json, {"units": model.units, "molecules": rows}, lines)
    return EXIT_DONE


def _export(arguments: argparse.Namespace) -> int:
    quiet_libraries()
    from mmgnn_dist.predict.bundle import export_run

    to = export_run(arguments.run, arguments.to)
    print_result(arguments.json, {"model": to}, [f"{to}: apply it with 'mmgnn predict {to} FILE -o OUT'"])
    return EXIT_DONE
