"""One page for one run: what was trained, how well it predicts, where it fails, what it cost.

The page is one file without scripts and network requests. It follows the reader's light or dark mode, and
wide tables scroll, also by the keyboard.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import yaml

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import write_text
from mmgnn_dist.html_style import html_page
from mmgnn_dist.run_records import journal_metric
from mmgnn_dist.show import charts, elements
from mmgnn_dist.show.charts import ChartLine
from mmgnn_dist.show.elements import paragraph, shown_number
from mmgnn_dist.show.read_run import ShownRun
from mmgnn_dist.train.metrics import metric_unit
from mmgnn_dist.train.report.class_metrics import CLASS_TITLES

MOST_POINTS = 12_000  # of all parity plots: about 1.3 MB
MOST_STEPS = 400  # points of a loss curve
WORST = 8  # molecules that are drawn
LEAST = 5  # molecules of a group in a table
BINS = 4  # of sizes
GATE_BINS = 20
MODALITIES = {
    "both": "graph + text",
    "graph": "graph only",
    "text": "text only",
    "width_matched": "wider graph",
}


def write_run_page(shown: ShownRun, path: Path) -> Path:
    """Write the page of a run; returns its path.

    Raises:
        UserError: the page cannot be written.
    """
    try:
        write_text(path, run_page(shown))
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): give another place by --html"
        ) from None
    return path


def run_page(shown: ShownRun, refresh: int = 0) -> str:
    """Return the page of a run.

    Args:
        shown: the run.
        refresh: seconds after which the browser reads it again, 0 for never.
    """
    sections = [
        ("Errors", _errors(shown)),
        ("Learning curves", learning_curves([shown, *shown.twins])),
        ("Parity", _parity(shown)),
        ("Errors by kind of molecule", _groups(shown)),
        ("Gate", _gate(shown)),
        ("Largest errors", _worst(shown)),
        ("Cost", _cost(shown)),
        ("Recipe", _recipe(shown)),
    ]
    kept = [(title, html) for title, html in sections if html]
    links = "".join(f'<a href="#s{k}">{escape(title)}</a>' for k, (title, _) in enumerate(kept))
    parts = [f"<h1>Run {escape(shown.name)}</h1>", *map(paragraph, run_in_words(shown))]
    parts += [paragraph(note, "soft") for note in shown.notes]
    parts.append(f'<nav aria-label="sections">{links}</nav>')
    parts += [f'<h2 id="s{k}">{escape(title)}</h2>\n{html}' for k, (title, html) in enumerate(kept)]
    page = html_page(f"Run {shown.name}", elements.STYLE + charts.STYLE, "\n".join(parts))
    return (
        page.replace("<head>", f'<head><meta http-equiv="refresh" content="{refresh}">', 1)
        if refresh
        else page
    )


def run_in_words(shown: ShownRun) -> list[str]:
    """Say in words what was trained, what came out and how sure that is."""
    recipe, modality = shown.recipe, MODALITIES[shown.recipe.model.modality]
    text = f" that reads {', '.join(recipe.text.fields)}" if recipe.model.reads_text else ""
    lines = [
        f"A {modality} model ({recipe.model.backbone.name}){text} was asked to predict "
        f"{', '.join(recipe.targets)}."
    ]
    if shown.metrics is None:
        steps = [line["step"] for line in shown.journal if line["kind"] == "train"]
        return [*lines, f"It is not finished: {steps[-1] if steps else 0} steps are done."]
    scores, baselines = shown.scores(), shown.metrics["baselines"]
    counts = shown.metrics["molecules"]
    lines.append(
        f"It learned from {counts['train']:,} molecules, the best of its states was chosen on "
        f"{counts['val']:,}, and all numbers below are of {counts['test']:,} others."
    )
    better = [name for name in scores if _share(shown, name, baselines) < 1]
    if scores:
        lines.append(
            f"It is better than the mean and than a linear fit on atom counts for {len(better)} of "
            f"{len(scores)} targets. These are results of one training: another seed or split changes them."
        )
    return lines


def _share(shown: ShownRun, target: str, baselines: dict[str, float | None]) -> float:
    """Return the MAE of a target as a share of the better baseline's."""
    own = shown.scores()[target].mae
    metric = f"mae/{target}_{metric_unit(shown.unit(target))}"
    found = [baselines.get(f"{kind}/{metric}") for kind in ("mean", "composition")]
    known = [value for value in found if value is not None]
    return own / min(known) if known and min(known) > 0 else np.nan


def _errors(shown: ShownRun) -> str:
    if shown.metrics is None:
        return ""
    twins = [twin for twin in shown.twins if twin.metrics is not None]
    columns = [
        "target",
        "unit",
        "molecules",
        "MAE",
        "of best baseline",
        "RMSE",
        "R²",
        "Spearman",
        "largest error",
    ]
    columns += [f"MAE, {MODALITIES[twin.recipe.model.modality]}" for twin in twins]
    rows = []
    for name, score in shown.scores().items():
        share = _share(shown, name, shown.metrics["baselines"])
        row = [name, shown.unit(name), f"{score.count:,}", shown_number(score.mae)]
        row += [f"{100 * share:.0f} %" if np.isfinite(share) else "–"]
        row += [
            shown_number(score.rmse),
            shown_number(score.r2),
            shown_number(score.spearman),
            shown_number(score.largest),
        ]
        rows.append([*row, *(shown_number(twin.scores()[name].mae) for twin in twins)])
    note = (
        "Of best baseline: the MAE as a share of that of the better of two simple predictors, the mean and a "
        "linear fit on atom counts. R²: share of the variance that is explained. Spearman: whether molecules "
        "come in the right order, 1 for all."
    )
    parts = [elements.table("Errors", columns, rows), paragraph(note, "soft")] if rows else []
    classes = [
        [
            name.split("/")[2],
            CLASS_TITLES[name.split("/")[1]],
            shown_number(np.nan if value is None else value),
        ]
        for name, value in shown.metrics["metrics"].items()
        if name.split("/")[1] in CLASS_TITLES
    ]
    return "".join([*parts, elements.table("Classes", ["target", "score", "test"], classes)])


def learning_curves(runs: list[ShownRun]) -> str:
    """Draw the training loss and every validation error of runs, each run with a line of its own."""
    names = [f"{run.name} ({MODALITIES[run.recipe.model.modality]})" for run in runs]
    losses = []
    for k, run in enumerate(runs):
        train = [line for line in run.journal if line["kind"] == "train"]
        width = max(1, len(train) // 50)
        loss = np.convolve([line["loss"] for line in train], np.ones(width) / width, mode="valid")
        steps = [line["step"] for line in train][width - 1 :]
        every = max(1, len(steps) // MOST_STEPS)
        losses.append(ChartLine(names[k], steps[::every], loss[::every].tolist() if train else [], k))
    figures = [charts.line_chart("training loss, moving mean", losses)]
    metrics = dict.fromkeys(
        key
        for run in runs
        for line in run.journal
        for key in line
        if key.startswith("val/") and key != "val/score"
    )
    for key in metrics:
        lines = []
        for k, run in enumerate(runs):
            found = [line for line in run.journal if line["kind"] == "validation" and key in line]
            values = [np.nan if (value := journal_metric(line, key)) is None else value for line in found]
            lines.append(ChartLine(names[k], [line["step"] for line in found], values, k))
        kind, _, target = key.removeprefix("val/").partition("/")
        figures.append(charts.line_chart(f"validation {kind.upper()}, {target.replace('_', ' ')}", lines))
    drawn = "".join(figures)
    return (
        charts.line_legend([(name, k) for k, name in enumerate(names)]) + f'<div class="charts">{drawn}</div>'
        if drawn
        else ""
    )


def _parity(shown: ShownRun) -> str:
    if not shown.numbers:
        return ""
    assert shown.table is not None
    ids, most = shown.table["id"].to_pylist(), MOST_POINTS // len(shown.numbers)
    figures, left = [], 0
    for name in shown.numbers:
        true, found = shown.values(name)
        rows = np.flatnonzero(np.isfinite(true) & np.isfinite(found))
        if len(rows) > most:  # the worst are kept, the others evenly
            order = rows[np.argsort(-np.abs(found - true)[rows], kind="stable")]
            worst, rest = order[: most // 4], np.sort(order[most // 4 :])
            even = rest[np.linspace(0, len(rest) - 1, most - len(worst)).astype(int)]
            left, rows = left + len(rows) - most, np.concatenate([worst, even])
        if len(rows):
            names = [ids[row] for row in rows]
            figures.append(
                charts.parity_chart(
                    f"{name}, predicted over label", true[rows], found[rows], names, shown.unit(name)
                )
            )
    note = "Every point is a test molecule: hover over it to see which. On the line a prediction is right."
    if left:
        note += f" {left:,} points with smaller errors are left out."
    return paragraph(note) + f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def _groups(shown: ShownRun) -> str:
    if shown.kinds is None or not shown.numbers:
        return ""
    kinds, score = shown.kinds, shown.relative_errors()
    edges = np.unique(np.quantile(kinds.atoms, np.arange(1, BINS) / BINS).astype(int))
    bins = np.searchsorted(edges, kinds.atoms)
    sizes = {}
    for k in np.unique(bins):
        inside = bins == k
        sizes[f"{kinds.atoms[inside].min()} to {kinds.atoms[inside].max()} atoms"] = inside
    texts = {f"with {name}": mask for name, mask in kinds.fields.items()}
    texts |= {f"without {name}": ~mask for name, mask in kinds.fields.items()}
    parts = []
    for title, groups in (("Size", sizes), ("Text", texts), ("Functional group", kinds.groups)):
        rows = [
            [
                name,
                f"{mask.sum():,}",
                f"{100 * mask.mean():.0f} %",
                shown_number(float(np.nanmean(score[mask])), 3),
            ]
            for name, mask in groups.items()
            if mask.sum() >= LEAST and np.isfinite(score[mask]).any()
        ]
        parts.append(elements.table(title, [title.lower(), "molecules", "share", "error"], rows))
    note = (
        "Error: mean over the targets of the error in units of the target's MAE, so 1 is an average one. "
        f"Groups of fewer than {LEAST} molecules are left out; a molecule may have several functional groups."
    )
    return paragraph(note) + "<br>".join(part for part in parts if part) if any(parts) else ""


def _gate(shown: ShownRun) -> str:
    columns = shown.table.column_names if shown.table is not None else []
    gates = [name for name in columns if name.endswith("_gate")]
    if not gates:
        return ""
    assert shown.table is not None
    values = np.asarray(shown.table[gates[0]].to_numpy(), float)
    counts, _ = np.histogram(values, GATE_BINS, (0.0, 1.0))
    mean = np.nanmean(values)
    note = f"Where the gate is 0 only text is read, where it is 1 only the graph. Its mean is {mean:.3f}."
    chart = charts.bar_chart("gate of the test molecules", counts.tolist(), 0.0, 1.0, "0: text     1: graph")
    return paragraph(note) + f'<div class="charts">{chart}</div>'


def _worst(shown: ShownRun) -> str:
    score = shown.relative_errors()
    if not np.isfinite(score).any():
        return ""
    assert shown.table is not None
    rows = [
        row for row in np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable")[:WORST] if score[row] > 0
    ]
    entries = []
    for row in rows:
        errors = {}
        for name in shown.numbers:
            true, found = shown.values(name)
            errors[name] = (found[row] - true[row]) / (np.nanmean(np.abs(found - true)) or 1.0)
        worst = max(errors, key=lambda name: np.nan_to_num(abs(errors[name])))
        true, found = shown.values(worst)
        told = f"{score[row]:.1f} × the mean error; {worst} {true[row]:.4g}, predicted {found[row]:.4g}"
        told += f" {shown.unit(worst)}"
        entries.append((shown.table["id"][row].as_py(), shown.smiles[row] if shown.smiles else None, told))
    return elements.draw_molecules(entries)


def _cost(shown: ShownRun) -> str:
    if shown.metrics is None:
        return ""
    rows = []
    for run in (shown, *shown.twins):
        if (facts := run.metrics) is None:
            continue
        rates = [line["rate"] for line in run.journal if line["kind"] == "train" and "rate" in line]
        row = [run.name, f"{facts['parameters']:,}", f"{facts['steps']:,}", f"{facts['best_step']:,}"]
        row += [f"{facts['seconds']:,.0f}", shown_number(float(np.median(rates)) if rates else np.nan, 3)]
        rows.append([*row, str(facts["world"]), facts["precision"]])
    columns = [
        "run",
        "trained parameters",
        "steps",
        "best step",
        "seconds",
        "molecules/s",
        "ranks",
        "precision",
    ]
    versions = ", ".join(f"{name} {version}" for name, version in shown.versions.items())
    return elements.table("Cost", columns, rows) + (
        paragraph(f"Made with {versions}.", "soft") if versions else ""
    )


def _recipe(shown: ShownRun) -> str:
    values = shown.recipe.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=90, allow_unicode=True)
    return f'<pre tabindex="0" aria-label="recipe">{escape(text)}</pre>'
