"""Report section on the learning curve: errors and gains by number of training molecules, and its slope.

Text may help if data are scarce. They are not if the error hardly falls with their number: the slope is
that of log MAE over log size (least squares), of each replicate and then the mean. Above `DATA_LIMITED` the
runs are called not data-limited: steps, size of the model or something else holds them back.
"""

from __future__ import annotations

import numpy as np

from mmgnn_dist.study.collect import Model, Results, crossed, model_of
from mmgnn_dist.study.compare import mean_gain
from mmgnn_dist.study.grid import BASE
from mmgnn_dist.study.report.figures import Series, curves
from mmgnn_dist.study.report.gains import SHOWN_NAMES
from mmgnn_dist.study.report.primary import distinct_places
from mmgnn_dist.study.report.report_elements import (
    Figure,
    ReportSection,
    Table,
    interval,
    percent,
    signed,
    with_spread,
)
from mmgnn_dist.study.statistics.corrected_ttest import scatter_of, t_interval

DATA_LIMITED = -0.2
SLOPED = ("graph", "both")


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
    items: list[Table | Figure] = [
        _slopes(results, sizes, backbones),
        gains,
        _errors(results, sizes, backbones),
        _steps(results, sizes, backbones),
    ]
    if panels:
        caption = "Gain of graph + text, mean over all targets, with the interval over test molecules."
        items.insert(0, curves("curve", caption, panels, "training molecules", "gain, %", log=True))
    text = [
        "Every size takes as many optimiser steps and validations as the whole training part (or "
        "study.size_steps, if these are more, before patience ends it); a smaller draw is within a "
        "larger, and test molecules are the same."
    ]
    return ReportSection("Learning curve", text, items)


def _slopes(results: Results, sizes: dict[int, str], backbones: list[str]) -> Table:
    """Slope of log MAE over log size by backbone, arm and target, with its interval over replicates."""
    rows, numbers = [], []
    kept = [results.targets[place] for place in distinct_places(results)[0]]
    for backbone in backbones:
        for arm in SLOPED:
            for label, targets in [("mean of distinct targets", kept), *((t, [t]) for t in results.targets)]:
                slopes = _slope_of_runs(results, sizes, Model(backbone, arm), targets)
                if slopes is None:
                    continue
                scatter = scatter_of(slopes, results.share(Model(backbone, arm)))
                half, _ = t_interval(scatter.estimate, scatter.error, np.array(scatter.freedom))
                slope, reach = float(scatter.estimate), float(half)
                limited = slope <= DATA_LIMITED
                shown = [backbone, SHOWN_NAMES[arm], label, signed(slope, 2)]
                shown.append(interval(slope - reach, slope + reach, 2))
                rows.append([*shown, "data-limited" if limited else "not data-limited"])
                line = {"backbone": backbone, "arm": arm, "targets": label, "slope": slope}
                numbers.append(
                    line
                    | {"low": slope - reach, "high": slope + reach, "data_limited": limited}
                    | {"runs": slopes.size}
                )
    columns = ["backbone", "arm", "targets", "slope", "over trainings", ""]
    note = (
        "Slope of log MAE over the logarithm of the number of training molecules, the mean over folds "
        "and seeds with "
        f"its 95 % interval (corrected resampled t). Above {DATA_LIMITED}: not data-limited, the curve "
        "says nothing "
        "about scarce data."
    )
    return Table("curve_slopes", "Slope", columns, rows, numbers, note, words=3)


def _slope_of_runs(
    results: Results, sizes: dict[int, str], model: Model, targets: list[str]
) -> np.ndarray | None:
    """Slope of each replicate that has every size [K, S]; None without two sizes."""
    points = []
    for size, variant in sizes.items():
        maes = [results.mae(Model(model.backbone, model.arm, variant), target) for target in targets]
        if maes and all(maes):
            points.append((size, maes))
    runs = crossed(set.intersection(*(set(mae) for _, maes in points for mae in maes))) if points else []
    if len(points) < 2 or not runs:
        return None
    x = np.log([size for size, _ in points])
    logs = np.array([[np.mean([np.log(mae[run]) for mae in maes]) for run in runs] for _, maes in points])
    slopes = np.polyfit(x, logs, 1)[0]
    return np.asarray(slopes).reshape(len({fold for fold, _ in runs}), -1)


def _steps(results: Results, sizes: dict[int, str], backbones: list[str]) -> Table:
    """Steps of the runs, and how many had their best validation at the last step."""
    rows, numbers = [], []
    for backbone in backbones:
        for arm in SLOPED:
            for size, variant in sizes.items():
                model = Model(backbone, arm, variant)
                runs = [m for cell, m in results.metrics.items() if model_of(cell) == model]
                if not runs:
                    continue
                steps, best = (float(np.mean([run[key] for run in runs])) for key in ("steps", "best_step"))
                last = sum(run["best_step"] == run["steps"] for run in runs)
                rows.append([backbone, SHOWN_NAMES[arm], f"{size:,}", f"{steps:,.0f}", f"{best:,.0f}"])
                rows[-1].append(f"{last} of {len(runs)}")
                line = {"backbone": backbone, "arm": arm, "molecules": size, "steps": steps, "best": best}
                numbers.append(line | {"best_is_last": last, "runs": len(runs)})
    columns = ["backbone", "arm", "training molecules", "steps", "best at step", "best at the last"]
    note = (
        "A run whose best validation is the last may not have converged: more steps or patience would tell."
    )
    return Table("curve_steps", "Convergence", columns, rows, numbers, note, words=2)


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
