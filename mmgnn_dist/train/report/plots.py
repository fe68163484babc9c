"""Plots of a run: learning curve, parity of each target, distribution of the gate, comparison of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmgnn_dist.files import atomic_path
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine, journal_metric

BLUE, ORANGE, GREY = "#1f5fa8", "#d9741a", "#8a8f98"
COLOURS = {"both": BLUE, "graph": ORANGE, "width_matched": "#a8481f", "text": "#3b8f4e"}
TITLES = {
    "graph": "graph only",
    "width_matched": "wider graph",
    "text": "text only",
    "both": "graph + text",
}


def share(part: float, whole: float) -> float:
    """Return `part / whole`, or NaN for a whole of zero, as with a baseline error of a constant target."""
    return part / whole if whole else math.nan


def pyplot() -> Any:
    """Import pyplot without a display and set the style of the plots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "figure.dpi": 130,
        }
    )
    return plt


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG and close it."""
    figure.tight_layout()
    with atomic_path(path) as part:
        figure.savefig(part, format="png")
    pyplot().close(figure)


def _grid(plt: Any, count: int) -> tuple[Any, list[Any]]:
    columns = min(3, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.2 * columns, 2.9 * rows), squeeze=False)
    flat = list(axes.flat)
    for axis in flat[count:]:
        axis.set_visible(False)
    return figure, flat[:count]


def draw_run(folder: Path, targets: list[str], units: list[str]) -> None:
    """Draw the predictions of a run into `plots/`: parity.png, and gate.png with a gate."""
    import pyarrow.parquet as pq

    run = RunDir(folder)
    table = pq.read_table(run.predictions)
    _parity(run.plot("parity"), targets, units, table)
    if f"{targets[0]}_gate" in table.column_names:
        _gate(run.plot("gate"), table[f"{targets[0]}_gate"].to_numpy())


def draw_learning(path: Path, runs: dict[str, list[JournalLine]], metrics: dict[str, str]) -> None:
    """Draw loss and validation errors over the steps.

    Args:
        path: PNG file to write.
        runs: journal lines by modality.
        metrics: title of each metric, `homo (eV)`.
    """
    plt = pyplot()
    figure, axes = _grid(plt, len(metrics) + 1)
    for modality, journal in runs.items():
        colour = COLOURS[modality]
        train = [line for line in journal if line["kind"] == "train"]
        steps, losses = [line["step"] for line in train], [line["loss"] for line in train]
        width = max(1, len(losses) // 50)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes[0].plot(steps[width - 1 :], smooth, color=colour, lw=1.5, label=TITLES[modality])
        validations = [line for line in journal if line["kind"] == "validation"]
        validation_steps = [line["step"] for line in validations]
        for axis, metric in zip(axes[1:], metrics, strict=True):
            values = [journal_metric(line, f"val/mae/{metric}") for line in validations]
            errors = np.array(values, float)  # None becomes NaN
            axis.plot(validation_steps, errors, "o-", ms=3, color=colour)
    axes[0].set(title="training loss (scaled)", xlabel="step")
    axes[0].legend(frameon=False)
    for axis, title in zip(axes[1:], metrics.values(), strict=True):
        axis.set(title=f"validation MAE, {title}", xlabel="step", ylim=(0, None))
    save(figure, path)


def _parity(path: Path, targets: list[str], units: list[str], table: Any) -> None:
    plt = pyplot()
    figure, axes = _grid(plt, len(targets))
    for axis, target, unit in zip(axes, targets, units, strict=True):
        true, predicted = table[f"{target}_true"].to_numpy(), table[f"{target}_pred"].to_numpy()
        labelled = np.isfinite(true)
        true, predicted = true[labelled], predicted[labelled]
        if not len(true):
            axis.set(title=f"{target}: no labels")
            continue
        low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
        axis.plot([low, high], [low, high], color=GREY, lw=1, zorder=1)
        axis.scatter(true, predicted, s=5, alpha=0.5, color=BLUE, lw=0, rasterized=True)
        mae = np.abs(true - predicted).mean()
        axis.set(
            title=f"{target}: MAE {mae:.3g} {unit}", xlabel=f"true ({unit})", ylabel=f"predicted ({unit})"
        )
    save(figure, path)


def _gate(path: Path, gate: np.ndarray) -> None:
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(4.2, 3))
    axis.hist(gate, bins=40, color=BLUE)
    axis.axvline(float(gate.mean()), color=ORANGE, lw=1.5)
    axis.set(
        title=f"gate of the test molecules, mean {gate.mean():.3f}",
        xlabel="0: text only    1: graph only",
        ylabel="molecules",
    )
    save(figure, path)


def draw_comparison(path: Path, targets: Sequence[str], shares: Mapping[str, Sequence[float]]) -> None:
    """Draw bars of test MAE as a share of the better baseline's.

    Args:
        path: PNG file to write.
        targets: names of the targets.
        shares: share for each target, by modality of the run, in the order of the bars.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(1.5 + 1.1 * len(targets), 3.2))
    width = 0.8 / len(shares)
    positions = np.arange(len(targets))
    for number, (modality, heights) in enumerate(shares.items()):
        offset = (number - (len(shares) - 1) / 2) * width
        axis.bar(positions + offset, heights, width, label=TITLES[modality], color=COLOURS[modality])
    axis.axhline(1.0, color=GREY, lw=1, ls="--")
    axis.set_xticks(positions, targets)
    axis.set(title="test MAE as a share of the better baseline (lower is better)")
    axis.legend(frameon=False)
    save(figure, path)
