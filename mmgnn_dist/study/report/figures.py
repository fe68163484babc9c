"""Figures of a report with matplotlib: lines with intervals and histograms, one colour per backbone.

An SVG keeps its text as text, and `INK` is replaced by the text colour of the page, so the same figure is
readable on a light and on a dark page; the PNG has a white background.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmgnn_dist.study.report.report_elements import Figure

INK, GREY = "#1b1f24", "#8a8f98"
COLOURS = ("#3f86cc", "#d9741a", "#3b8f4e", "#a25aa8", "#b0413e")  # readable on white and on black
MARKERS = "osD^v"


@dataclass
class Series:
    """Values with intervals in one colour: x, estimate, low and high, all [m]."""

    label: str
    x: Sequence[Any]
    estimate: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray
    high: Sequence[float] | np.ndarray


def _start(columns: int, rows: int, width: float, height: float) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.facecolor": "none",
        }
    )
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    return figure, list(axes.flat)


def _finish(figure: Any, name: str, caption: str) -> Figure:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    plt.rcParams["svg.hashsalt"] = name  # the same numbers give the same file; ids are unique in a page
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return Figure(name, caption, svg.getvalue(), png.getvalue())


def inline(figure: Figure) -> str:
    """Return the SVG for an HTML page: without prologue, in the text colour, with unique ids."""
    body = figure.svg[figure.svg.index("<svg") :].replace(INK, "currentColor")
    body = re.sub(r'\bid="', f'id="{figure.name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{figure.name}-", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg role="img" \1', body, count=1).replace(
        'height="', 'data-height="', 1
    )


def forest(
    name: str, caption: str, panels: dict[str, list[Series]], label: str, names: Sequence[str]
) -> Figure:
    """Draw estimates with intervals: one row per name, one panel per question.

    Args:
        name: name of the files of the figure.
        caption: caption of the figure.
        panels: series of each panel by title; the x of a series are indices of `names`.
        label: label of the value axis.
        names: labels of the rows, from the top.
    """
    rows = max(len(names), 1)
    figure, axes = _start(len(panels), 1, 3.9, 0.9 + (0.34 if rows <= 12 else 0.22) * rows)
    for axis, (title, series) in zip(axes, panels.items(), strict=True):
        axis.axvline(0.0, color=GREY, lw=1)
        for index, entry in enumerate(series):
            shift = (index - (len(series) - 1) / 2) * 0.7 / max(len(series), 2)
            positions = np.array(entry.x, float) + shift
            reach = np.abs(np.array([entry.low, entry.high]) - np.array(entry.estimate))
            axis.errorbar(
                entry.estimate,
                positions,
                xerr=np.nan_to_num(reach),
                fmt=MARKERS[index % 5],
                ms=4,
                lw=1.4,
                color=COLOURS[index % 5],
                label=entry.label,
            )
        axis.set(title=title, xlabel=label, ylim=(rows - 0.5, -0.5))
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [])
    _legend(axes[0])
    return _finish(figure, name, caption)


def curves(
    name: str, caption: str, panels: dict[str, list[Series]], x_label: str, y_label: str, log: bool = False
) -> Figure:
    """Draw lines with intervals over a number: one panel per question."""
    figure, axes = _start(len(panels), 1, 3.9, 3.0)
    for axis, (title, series) in zip(axes, panels.items(), strict=True):
        if any(np.nanmin(entry.low) < 0 for entry in series if np.isfinite(entry.low).any()):
            axis.axhline(0.0, color=GREY, lw=1)
        for index, entry in enumerate(series):
            reach = np.nan_to_num(np.abs(np.array([entry.low, entry.high]) - np.array(entry.estimate)))
            axis.errorbar(
                entry.x,
                entry.estimate,
                yerr=reach,
                fmt=f"{MARKERS[index % 5]}-",
                ms=4,
                lw=1.4,
                capsize=2,
                color=COLOURS[index % 5],
                label=entry.label,
            )
        axis.set(title=title, xlabel=x_label, ylabel=y_label)
        if log:
            ticks = sorted({float(x) for entry in series for x in entry.x})
            axis.set_xscale("log")
            axis.set_xticks(ticks, [f"{int(tick):,}" for tick in ticks], minor=False)
            axis.minorticks_off()
    _legend(axes[0])
    return _finish(figure, name, caption)


def histograms(name: str, caption: str, panels: dict[str, dict[str, np.ndarray]], label: str) -> Figure:
    """Draw distributions as percentages: one panel per group, one outline per series."""
    figure, axes = _start(len(panels), 1, 3.9, 2.7)
    for axis, (title, series) in zip(axes, panels.items(), strict=True):
        values = np.concatenate(list(series.values()))
        bins = np.linspace(values.min(), values.max() + 1e-9, 41)
        for index, (series_label, sample) in enumerate(series.items()):
            axis.hist(
                sample,
                bins,
                weights=np.full(len(sample), 100.0 / len(sample)),
                histtype="step",
                lw=1.5,
                color=COLOURS[index % 5],
                label=series_label,
            )
        axis.set(title=title, xlabel=label, ylabel="molecules, %")
    _legend(axes[0])
    return _finish(figure, name, caption)


def _legend(axis: Any) -> None:
    if len(axis.get_legend_handles_labels()[1]) > 1:
        axis.legend(frameon=False, fontsize=8, labelcolor=INK)
