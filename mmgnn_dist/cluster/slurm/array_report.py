"""The report of an array, which a following job writes: mean and sd of test errors over folds and seeds."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Protocol, TypedDict

from mmgnn_dist.files import read_json, write_json, write_text
from mmgnn_dist.run_dir import RunDir

MEMBER = re.compile(r"(fold_\d+)?_?(seed_\d+)?")


class Report(Protocol):
    """Task that submitit pickles for the job that follows an array.

    Attributes:
        page: path of the report, relative to the folder of the array.
        time: time limit of the job.
    """

    page: str
    time: str

    def __call__(self) -> str:
        """Write the report; returns its path."""


class FoldReport:
    """Task that writes the report of an array of folds and seeds.

    Args:
        base: folder of the array.
        runs: run directories of the array.
    """

    page, time = "report.md", "00:10:00"

    def __init__(self, base: Path, runs: list[Path]) -> None:
        self.base, self.runs = str(base), [str(run) for run in runs]

    def __call__(self) -> str:
        """Write `report.md` and `report.json`; returns the path of the table."""
        return str(write_table(Path(self.base), [Path(run) for run in self.runs]))


class GroupError(TypedDict):
    """Mean and standard deviation of a test error over the runs of a group; `sd` is None for a single run."""

    group: str
    metric: str
    mean: float
    runs: int
    sd: float | None


def write_table(base: Path, runs: list[Path]) -> Path:
    """Write the table of the finished runs, and list those that are not finished."""
    groups: dict[str, dict[str, list[float]]] = {}
    missing = []
    for run in runs:
        if not RunDir(run).metrics.is_file():
            missing.append(str(run.relative_to(base)) if run != base else run.name)
            continue
        group = groups.setdefault(_group(base, run), {})
        for name, value in read_json(RunDir(run).metrics)["metrics"].items():
            if value is not None:
                group.setdefault(name, []).append(value)
    rows: list[GroupError] = [
        {
            "group": group,
            "metric": name,
            "mean": statistics.fmean(values),
            "runs": len(values),
            "sd": statistics.stdev(values) if len(values) > 1 else None,
        }
        for group, metrics in groups.items()
        for name, values in metrics.items()
    ]
    lines = ["# Test errors over folds and seeds", "", "| run | metric | mean | sd | runs |"]
    lines += ["|---|---|---|---|---|"]
    for row in rows:
        sd = "" if row["sd"] is None else f"{row['sd']:.4g}"
        lines.append(f"| {row['group']} | {row['metric']} | {row['mean']:.5g} | {sd} | {row['runs']} |")
    if missing:
        lines += ["", f"Not finished: {', '.join(missing)} (`mmgnn status` says why)."]
    write_json(base / "report.json", {"rows": rows, "missing": missing})
    write_text(base / "report.md", "\n".join(lines) + "\n")
    return base / "report.md"


def _group(base: Path, run: Path) -> str:
    """Return the part of a run's path without fold and seed: `main`, or `twins/graph`."""
    parts = [part for part in run.relative_to(base).parts if not MEMBER.fullmatch(part)]
    return "/".join(parts) or "main"
