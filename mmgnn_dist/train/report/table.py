"""The table of a run: the error of each target, of simple baselines and of the run's twins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mmgnn_dist.files import write_text
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import NamedMetrics
from mmgnn_dist.terminal import print_rows
from mmgnn_dist.train.report.baseline_verdict import baseline_verdict
from mmgnn_dist.train.report.class_metrics import CLASS_TITLES, target_of_metric
from mmgnn_dist.train.report.plots import TITLES, loss, share
from mmgnn_dist.train.report.results import read_results
from mmgnn_dist.train.report.scores import SCORE_TITLES, run_scores


@dataclass(frozen=True)
class ComparisonRow:
    """Errors of one target, or one metric of a class; NaN where no test molecule has a label.

    Attributes:
        target: name of the target.
        unit: its unit, that of all errors; for a class the title of the metric.
        mean: MAE of the mean of the training part.
        composition: MAE of a linear fit on atom counts.
        errors: MAE of each run by modality: the twins in their order, then the run itself.
        of_baseline: MAE of the run as a share of the better of `mean` and `composition`.
        gain_percent: how much lower the error of the run is than that of the first twin, %; None without one.
    """

    target: str
    unit: str
    mean: float
    composition: float
    errors: dict[str, float]
    of_baseline: float
    gain_percent: float | None

    def values(self) -> dict[str, str | float]:
        """Return the row as one flat mapping: errors under their modality, no gain without twins."""
        values: dict[str, str | float] = {"target": self.target, "unit": self.unit, "mean": self.mean}
        values |= {"composition": self.composition, **self.errors, "of_baseline": self.of_baseline}
        return values if self.gain_percent is None else values | {"gain_percent": self.gain_percent}


def comparison_rows(run: Path, twins: list[Path]) -> list[ComparisonRow]:
    """Make one row a target: unit, MAE of baselines and of each run, and the run over the better baseline."""
    results = [read_results(folder) for folder in (*twins, run)]
    return [_row(results, name) for name in results[-1]["metrics"]]


def _row(results: list[NamedMetrics], name: str) -> ComparisonRow:
    """Make the row of a test metric from the results of all runs, twins first."""
    baselines, metric = results[-1]["baselines"], name.removeprefix("test/")
    target, unit = target_of_metric(metric, results[-1]["units"])
    mean, linear = (_number(baselines[f"{kind}/{metric}"]) for kind in ("mean", "composition"))
    errors = {result["modality"]: _number(result["metrics"][name]) for result in results}
    own, first = (loss(unit, errors[results[place]["modality"]]) for place in (-1, 0))
    return ComparisonRow(
        target=target,
        unit=unit,
        mean=mean,
        composition=linear,
        errors=errors,
        of_baseline=share(own, min(loss(unit, mean), loss(unit, linear))),
        gain_percent=100.0 * share(first - own, first) if len(results) > 1 else None,
    )


def _number(value: float | None) -> float:
    """Return a metric as a number; NaN if no test molecule has a label."""
    return math.nan if value is None else value


def _columns(rows: list[ComparisonRow]) -> list[tuple[str, str]]:
    """Return key and heading of each column."""
    columns = [("target", "target"), ("unit", "unit"), ("mean", "mean"), ("composition", "linear fit")]
    columns += [(key, title) for key, title in TITLES.items() if key in rows[0].errors]
    columns.append(("of_baseline", "of best"))
    if rows[0].gain_percent is not None:
        columns.append(("gain_percent", "gain"))
    return columns


def verdict_line(rows: list[ComparisonRow]) -> str:
    """Say whether the models beat the baselines, the best and the worst of them on each target or metric."""
    best: dict[str, float] = {}
    worst: dict[str, float] = {}
    for row in rows:
        errors = [loss(row.unit, error) for error in row.errors.values()]
        known = [error for error in errors if not math.isnan(error)] or [math.nan]
        name = f"{row.target}, {row.unit}" if row.unit in CLASS_TITLES.values() else row.target
        baseline = min(loss(row.unit, row.mean), loss(row.unit, row.composition))
        best[name], worst[name] = share(min(known), baseline), share(max(known), baseline)
    return baseline_verdict(best, worst)


def legend(run: Path, twins: list[Path]) -> str:
    """Explain the columns in one paragraph."""
    results = [read_results(folder) for folder in (run, *twins)]
    titles = [TITLES[result["modality"]] for result in results]
    run_title = titles[0]
    text = (
        "mean, linear fit: the training part's mean, and a linear fit on atom counts. "
        f"of best: {run_title} as a share of the better of the two."
    )
    if any(name.startswith("test/auroc/") for name in results[0]["metrics"]):
        text += (
            " Of classes, mean is the prevalence and linear fit a logistic one; their errors are what is "
            "missing to 1, of best and gain compare these."
        )
    if twins:
        text += f" gain: how much lower the error of {run_title} is than that of {titles[1]}, one run each."
        sizes = ", ".join(f"{t} {r['parameters']:,}" for t, r in zip(titles, results, strict=True))
        text += f" Trainable parameters: {sizes}."
    return text


def _cell(key: str, value: str | float) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "–"
    if key == "of_baseline":
        return f"{100 * value:.0f} %"
    return f"{value:+.1f} %" if key == "gain_percent" else f"{value:.4g}"


def _score_rows(run: Path, rows: list[ComparisonRow]) -> list[list[str]]:
    """Return the rows of the second table, with the scores of `SCORE_TITLES`."""
    scores, units = run_scores(RunDir(run)), {row.target: row.unit for row in rows}
    return [[name, units.get(name, ""), *found.cells()] for name, found in scores.items()]


def print_table(run: Path, rows: list[ComparisonRow], title: str, note: str) -> None:
    """Print the table of a run on the terminal, and further scores of the run below."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    columns = _columns(rows)
    for key, heading in columns:
        table.add_column(heading, justify="left" if key in ("target", "unit") else "right")
    for row in rows:
        values = row.values()
        table.add_row(*(_cell(key, values[key]) for key, _ in columns))
    console = Console()
    console.print(verdict_line(rows), highlight=False)
    console.print(table)
    console.print(note, highlight=False)
    print_rows("\nFurther scores", ["target", "unit", *SCORE_TITLES], _score_rows(run, rows))


def write_run_report(run: Path, rows: list[ComparisonRow], title: str, note: str) -> Path:
    """Write the table and links to the plots as Markdown; return the path of the report."""
    columns = _columns(rows)
    lines = [f"# {run.name}", "", verdict_line(rows), "", title, ""]
    lines.append("| " + " | ".join(heading for _, heading in columns) + " |")
    lines.append("|" + "---|" * len(columns))
    for values in (row.values() for row in rows):
        lines.append("| " + " | ".join(_cell(key, values[key]) for key, _ in columns) + " |")
    if scores := _score_rows(run, rows):
        lines += ["", "Further scores", "", "| " + " | ".join(("target", "unit", *SCORE_TITLES)) + " |"]
        lines.append("|" + "---|" * (2 + len(SCORE_TITLES)))
        lines += ["| " + " | ".join(cells) + " |" for cells in scores]
    pictures = sorted(RunDir(run).plots.glob("*.png"))
    lines += [
        "",
        note,
        "",
        *(f"![{path.stem.replace('_', ' ')}](plots/{path.name})" for path in pictures),
        "",
    ]
    write_text(RunDir(run).report, "\n".join(lines))
    return RunDir(run).report
