"""Report section on cost and provenance: rates, hours, energy, versions and hashes."""

from __future__ import annotations

import json

import numpy as np

from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.study.collect import Results
from mmgnn_dist.study.grid import Cell
from mmgnn_dist.study.report.gains import SHOWN_NAMES
from mmgnn_dist.study.report.report_elements import ReportSection, Table, number
from mmgnn_dist.study.run import SESSIONS
from mmgnn_dist.train.tracking.journal import read_journal


def costs_section(results: Results) -> ReportSection:
    """Cost by model, sessions, and one row per run."""
    return ReportSection("Cost and provenance", _sessions(results), [_models(results), _runs(results)])


def _models(results: Results) -> Table:
    rows, numbers = [], []
    kinds = list(dict.fromkeys((c.backbone, c.arm, c.variant) for c in results.done))
    for backbone, arm, variant in kinds:
        model_cells = [c for c in results.done if (c.backbone, c.arm, c.variant) == (backbone, arm, variant)]
        metrics = [results.metrics[cell] for cell in model_cells]
        seen = [_molecules(results, cell) for cell in model_cells]
        seconds = sum(m["seconds"] for m in metrics)
        rate = sum(seen) / seconds if seconds else np.nan
        rows.append(
            [
                backbone,
                SHOWN_NAMES[arm],
                variant,
                f"{metrics[0]['parameters']:,}",
                str(len(model_cells)),
                number(rate),
                number(seconds / 3600 * metrics[0]["world"]),
            ]
        )
        numbers.append(
            {
                "backbone": backbone,
                "arm": arm,
                "variant": variant,
                "parameters": metrics[0]["parameters"],
                "runs": len(model_cells),
                "molecules_per_second": rate,
                "device_hours": seconds / 3600 * metrics[0]["world"],
            }
        )
    columns = ["backbone", "arm", "variant", "trainable parameters", "runs", "molecules/s", "device hours"]
    note = "Training alone, on one device (GPU, or the CPU threads of a run); several runs share the machine."
    return Table("cost", "Cost by model", columns, rows, numbers, note, words=3)


def _molecules(results: Results, cell: Cell) -> int:
    """Number of molecules that a run was trained on, counting repeats."""
    journal = read_journal(RunDir(cell.run(results.folder)).journal)
    return max((line["molecules"] for line in journal if line["kind"] == "train"), default=0)


def _runs(results: Results) -> Table:
    rows, numbers = [], []
    for cell, metrics in results.metrics.items():
        hashes = metrics["recipe"], metrics["weights"]
        rows.append([cell.name, str(cell.fold), str(cell.seed), *(value[:12] for value in hashes)])
        numbers.append(
            {
                "cell": cell.name,
                "backbone": cell.backbone,
                "arm": cell.arm,
                "variant": cell.variant,
                "targets": " ".join(cell.targets),
                "fold": cell.fold,
                "seed": cell.seed,
                "recipe": hashes[0],
                "weights": hashes[1],
                "precision": metrics["precision"],
                "world": metrics["world"],
                "seconds": metrics["seconds"],
                "steps": metrics["steps"],
                "best_step": metrics["best_step"],
                **metrics["metrics"],
                **read_json(RunDir(cell.run(results.folder)).versions),
            }
        )
    columns = ["run", "fold", "seed", "recipe", "weights"]
    note = "First digits of the SHA-256 of recipe and trained weights; runs.csv has them whole, and versions."
    return Table("runs", "Every run", columns, rows, numbers, note)


def _sessions(results: Results) -> list[str]:
    path = results.folder / SESSIONS
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    hours = sum(line["seconds"] for line in lines) / 3600
    devices = sum(metrics["seconds"] * metrics["world"] for metrics in results.metrics.values()) / 3600
    text = [
        f"{len(results.done)} of {len(results.cells)} runs are done: {devices:.2f} device hours of training"
        + (f" in {hours:.2f} hours of {len(lines)} session(s)." if lines else ".")
    ]
    for kind in ("cpu", "gpu"):
        measured = [line for line in lines if kind in line["joules"]]
        if measured:
            used = sum(line["joules"][kind] for line in measured) / 3.6e6
            names = ", ".join(dict.fromkeys(name for line in measured for name in line.get("nodes", [])))
            text.append(
                f"Energy of the {kind} of {names or 'the machine'} meanwhile, all that ran: {used:.3f} kWh"
                + (f" (in {len(measured)} of the sessions)." if len(measured) < len(lines) else ".")
            )
    if any(len(line.get("nodes", [])) > 1 for line in lines):
        text.append("Energy of sessions on several nodes was not measured.")
    elif not any(line["joules"] for line in lines):
        text.append("Energy could not be read where they ran." if lines else "Energy was not measured.")
    first = RunDir(results.done[0].run(results.folder))
    versions = ", ".join(f"{name} {value}" for name, value in read_json(first.versions).items())
    data = read_json(first.data)
    text.append(f"Versions: {versions}. Manifest of the shard set: SHA-256 {data['manifest_sha256']}.")
    return text
