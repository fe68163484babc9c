"""Main report section: errors and gains of text by target and backbone, with a verdict for every row."""

from __future__ import annotations

import numpy as np

from mmgnn_dist.study.collect import Model, Results
from mmgnn_dist.study.compare import Compared, compare_models
from mmgnn_dist.study.grid import BASE
from mmgnn_dist.study.report.figures import Series, forest
from mmgnn_dist.study.report.report_elements import (
    Figure,
    ReportSection,
    Table,
    interval,
    number,
    percent,
    probability,
    with_spread,
)
from mmgnn_dist.study.statistics.significance import LEVEL, marked
from mmgnn_dist.train.report.baseline_verdict import baseline_verdict
from mmgnn_dist.train.report.plots import share

SHOWN_NAMES = {
    "graph": "graph",
    "text": "text",
    "both": "graph + text",
    "width_matched": "wider graph",
    "zero": "zero text",
    "shuffled": "shuffled text",
    "random": "random text",
}
AXIS = "gain, % (right of 0: text helps)"
HOW = (
    "gain: how much lower the error of graph + text is than that of the reference, in percent. (a) its 95 % "
    "interval over test molecules (paired bootstrap, stratified by fold: these trained models). p: of (a), "
    "the "
    "larger of both references, after Holm over all rows. (b) the 95 % interval over folds and seeds "
    "(corrected "
    "resampled t: training again), not corrected for the number of rows. **●** gain of text: (a) holds "
    "against "
    "graph and against shuffled text at 5 % after correction; ● and * (b) too, against both."
)


def errors(results: Results, variant: str = BASE) -> Table:
    """Table of the MAE of every arm: mean and standard deviation over folds and seeds, and two baselines."""
    arms = results.arms(variant)
    baselines = {
        kind: {t: _baseline(results, kind, t) for t in results.targets} for kind in ("mean", "composition")
    }
    rows, numbers = [], []
    for target in results.targets:
        for backbone in results.backbones_of(variant):
            shown = [target, results.units[target], backbone]
            shown += [number(baselines[kind][target]) for kind in baselines]
            for arm in arms:
                values = np.array(list(results.mae(Model(backbone, arm, variant), target).values()))
                mean = float(values.mean()) if len(values) else np.nan
                spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
                shown.append(with_spread(mean, spread))
                numbers.append(
                    {
                        "target": target,
                        "unit": results.units[target],
                        "backbone": backbone,
                        "arm": arm,
                        "variant": variant,
                        "mae": mean,
                        "sd": spread,
                        "runs": len(values),
                        **{f"baseline_{kind}": by_target[target] for kind, by_target in baselines.items()},
                    }
                )
            rows.append(shown)
    columns = [
        "target",
        "unit",
        "backbone",
        "mean of training",
        "linear fit",
        *(SHOWN_NAMES[arm] for arm in arms),
    ]
    note = (
        "Test MAE, mean ± standard deviation over folds and seeds. mean of training, linear fit: what the "
        "training "
        "part's mean and a linear fit on composition reach."
    )
    name, title = (
        ("errors", "Errors") if variant == BASE else (f"errors_{variant}", f"Errors, {shown_name(variant)}")
    )
    return Table(name, title, columns, rows, numbers, note, words=3)


def shown_name(variant: str) -> str:
    """Display name of a variant: `fusion: film` for `fusion-film`."""
    return variant.replace("-", ": ", 1)


def _baseline(results: Results, kind: str, target: str) -> float:
    maes = []
    for cell, metrics in results.metrics.items():
        if target in cell.targets and cell.variant == BASE:
            metric_keys = metrics["metrics"].keys()
            target_name = list(metric_keys)[list(cell.targets).index(target)].removeprefix("test/mae/")
            error = metrics["baselines"][f"{kind}/mae/{target_name}"]
            maes.append(np.nan if error is None else error)
    return float(np.mean(maes)) if maes else np.nan


def gain_table(results: Results, variant: str, title: str) -> tuple[Table, list[Compared]]:
    """Table of the gains of graph + text over graph and over shuffled text, with a verdict for every row."""
    wanted = []
    for backbone in results.backbones_of(variant):
        both = Model(backbone, "both", variant)
        for arm in ("graph", "shuffled"):
            wanted.append((own_reference(results, both, arm), both))
    comparisons = compare_models(results, wanted)
    against = {arm: [c for c in comparisons if c.reference.arm == arm] for arm in ("graph", "shuffled")}
    stacked = {
        key: np.stack([np.stack([vars(c.test)[key] for c in against[arm]]).T.ravel() for arm in against], -1)
        for key in ("estimate", "p")
    }  # rows: target by target, backbone by backbone
    corrected, mark = marked(stacked["estimate"], stacked["p"])
    rows, numbers = [], []
    row = 0
    for t, target in enumerate(results.targets):
        for b, backbone in enumerate(results.backbones_of(variant)):
            graph, shuffled = against["graph"][b], against["shuffled"][b]
            star = bool(mark[row]) and all(
                c.runs.low[t] > 0 and c.runs.p[t] <= LEVEL for c in (graph, shuffled)
            )
            sign = "●*" if star else "●" if mark[row] else ""
            rows.append(
                [
                    target,
                    backbone,
                    sign,
                    percent(graph.test.estimate[t]),
                    interval(graph.test.low[t], graph.test.high[t]),
                    percent(shuffled.test.estimate[t]),
                    interval(shuffled.test.low[t], shuffled.test.high[t]),
                    probability(corrected[row]),
                    interval(graph.runs.low[t], graph.runs.high[t]),
                    interval(shuffled.runs.low[t], shuffled.runs.high[t]),
                ]
            )
            line = {
                "target": target,
                "backbone": backbone,
                "variant": variant,
                "gain_of_text": bool(mark[row]),
            }
            line |= {"holds_for_retraining": star, "p_corrected": corrected[row]}
            for comparison in (graph, shuffled):
                line |= both_intervals(comparison, t)
            numbers.append(line)
            row += 1
    columns = [
        "target",
        "backbone",
        "",
        "over graph, %",
        "(a)",
        "over shuffled, %",
        "(a)",
        "p",
        "(b) graph",
        "(b) shuffled",
    ]
    name = "gains" if variant == BASE else f"gains_{variant}"
    return Table(name, title, columns, rows, numbers, HOW, words=3), comparisons


def both_intervals(one: Compared, t: int) -> dict[str, float]:
    """Both intervals of a comparison for one target, as columns of the CSV."""
    out: dict[str, float] = {}
    for kind, gains in (("test", one.test), ("runs", one.runs)):
        for key in ("estimate", "low", "high", "p"):
            out[f"over_{one.reference.arm}_{kind}_{key}"] = float(vars(gains)[key][t])
    return out | {f"over_{one.reference.arm}_folds": one.counts[t][0]}


def own_reference(results: Results, model: Model, arm: str) -> Model:
    """Reference of a variant in an arm: that of the variant if it exists, else that of the base."""
    candidate = Model(model.backbone, arm, model.variant)
    return candidate if candidate in results.models else Model(model.backbone, arm)


def verdict(table: Table) -> list[str]:
    """Summarise a table of gains in sentences."""
    lines = []
    for backbone in dict.fromkeys(row["backbone"] for row in table.numbers):
        backbone_rows = [row for row in table.numbers if row["backbone"] == backbone]
        if all(np.isnan(row["over_graph_test_estimate"]) for row in backbone_rows):
            lines.append(f"**{backbone}**: no fold is done both with and without text.")
            continue
        gained = [
            f"{row['target']} ({percent(row['over_graph_test_estimate'])} %)"
            for row in backbone_rows
            if row["gain_of_text"]
        ]
        again = sum(row["holds_for_retraining"] for row in backbone_rows)
        better = [row["target"] for row in backbone_rows if row["over_graph_test_low"] > 0]
        worse = [row["target"] for row in backbone_rows if row["over_graph_test_high"] < 0]
        lines.append(
            f"**{backbone}**: gain of text on {len(gained)} of {len(backbone_rows)} targets"
            + (f": {', '.join(gained)}" if gained else "")
            + (f"; of these trained models, while (b) holds for {again} of them" if gained else "")
            + f". Against graph alone the interval is above zero on {len(better)} and below on {len(worse)}"
            + (f" ({', '.join(worse)})" if worse else "")
            + "."
        )
    if all(np.isnan(row["over_shuffled_test_estimate"]) for row in table.numbers):
        lines.append("No run with shuffled text is done, so no gain counts as a gain of text.")
    return lines


def gains_section(results: Results) -> tuple[ReportSection, list[Compared]]:
    """The main section and its comparisons; only a sentence if no run of the base is done."""
    title = "When does text help?"
    if not results.backbones_of(BASE):
        return ReportSection(title, ["No run of the grid's base is done yet, only variants of it."]), []
    table, comparisons = gain_table(results, BASE, "Gains of text")
    panels = {}
    for arm in ("graph", "shuffled"):
        arm_comparisons = [
            c for c in comparisons if c.reference.arm == arm and np.isfinite(c.test.estimate).any()
        ]
        if arm_comparisons:
            panels[f"graph + text over {SHOWN_NAMES[arm]}"] = [_series(c) for c in arm_comparisons]
    mae = errors(results)
    items: list[Table | Figure] = [mae, table]
    if panels:
        caption = (
            "Gain of graph + text with the interval (a) over test molecules, not corrected for several rows."
        )
        items.append(forest("gains", caption, panels, AXIS, results.targets))
    return ReportSection(title, [_over_baselines(mae), *verdict(table)], items), comparisons


def _over_baselines(table: Table) -> str:
    """Say whether the best models of a table of errors beat the baselines."""
    shares: dict[str, float] = {}
    for row in table.numbers:
        value = share(row["mae"], min(row["baseline_mean"], row["baseline_composition"]))
        shares[row["target"]] = float(np.fmin(shares.get(row["target"], np.nan), value))
    return baseline_verdict(shares)


def _series(comparison: Compared) -> Series:
    test = comparison.test
    return Series(comparison.other.backbone, range(len(test.estimate)), test.estimate, test.low, test.high)
