"""Report section on the learning curve: errors and gains by number of training molecules.

Text may help if data are scarce.
"""

from __future__ import annotations

import numpy as np

from mmgnn_dist.study.collect import Model, Results
from mmgnn_dist.study.compare import mean_gain
from mmgnn_dist.study.grid import BASE
from mmgnn_dist.study.report.figures import Series, curves
from mmgnn_dist.study.report.gains import SHOWN_NAMES
from mmgnn_dist.study.report.report_elements import (
    Figure,
    ReportSection,
    Table,
    interval,
    percent,
    with_spread,
)


def curve_section(results: Results) -> ReportSection | None:
    """Gain over graph and over shuffled text at every size, and the errors of both arms."""
    variants = {int(v.removeprefix("size-")): v for v in sorted(results.variants("size"))}
    if not variants:
        return None
    if whole := [m["molecules"]["train"] for c, m in results.metrics.items() if c.variant == BASE]:
        variants[max(whole)] = BASE
    sizes = dict(sorted(variants.items()))
    backbones = [
        b
        for b in results.backbones
        if any(Model(b, "both", v) in results.models for v in sizes.values() if v != BASE)
    ]
    panels: dict[str, list[Series]] = {}
    rows, numbers = [], []
    for arm in ("graph", "shuffled"):
        lines = []
        for backbone in backbones:
            points = []
            for size, variant in sizes.items():
                models = Model(backbone, arm, variant), Model(backbone, "both", variant)
                if all(model in results.models for model in models):
                    points.append((size, *mean_gain(results, *models)))
            x, estimate, low, high = zip(*points, strict=True) if points else ((),) * 4
            lines.append(Series(backbone, x, estimate, low, high))
            for size, gain, below, above in points:
                rows.append([f"{size:,}", backbone, SHOWN_NAMES[arm], percent(gain), interval(below, above)])
                numbers.append(
                    {
                        "molecules": size,
                        "backbone": backbone,
                        "reference": arm,
                        "gain": gain,
                        "low": below,
                        "high": above,
                    }
                )
        if any(len(line.x) for line in lines):
            panels[f"graph + text over {SHOWN_NAMES[arm]}"] = lines
    columns = ["training molecules", "backbone", "reference", "mean gain, %", "over molecules"]
    gains = Table("curve_gains", "Mean gain over all targets", columns, rows, numbers, words=3)
    items: list[Table | Figure] = [gains, _errors(results, sizes, backbones)]
    if panels:
        caption = "Gain of graph + text, mean over all targets, with the interval over test molecules."
        items.insert(0, curves("curve", caption, panels, "training molecules", "gain, %", log=True))
    text = [
        "Every size takes as many optimiser steps and validations as the whole training part; a smaller "
        "draw is "
        "within a larger, and test molecules are the same."
    ]
    return ReportSection("Learning curve", text, items)


def _errors(results: Results, sizes: dict[int, str], backbones: list[str]) -> Table:
    """MAE of graph and of graph + text by target and size."""
    rows, numbers = [], []
    for target in results.targets:
        for backbone in backbones:
            for arm in ("graph", "both"):
                shown = [target, results.units[target], backbone, SHOWN_NAMES[arm]]
                for size, variant in sizes.items():
                    values = np.array(list(results.mae(Model(backbone, arm, variant), target).values()))
                    mean = float(values.mean()) if len(values) else np.nan
                    spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
                    shown.append(with_spread(mean, spread))
                    numbers.append(
                        {
                            "target": target,
                            "backbone": backbone,
                            "arm": arm,
                            "molecules": size,
                            "mae": mean,
                            "sd": spread,
                        }
                    )
                rows.append(shown)
    columns = ["target", "unit", "backbone", "arm", *(f"{size:,}" for size in sizes)]
    return Table("curve_errors", "Errors by number of training molecules", columns, rows, numbers, words=4)
