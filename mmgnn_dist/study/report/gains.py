"""Main report section: errors and gains of text by target and backbone, with a verdict for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgnn_dist.study.collect import Model, Results
from mmgnn_dist.study.compare import Compared, compare_models
from mmgnn_dist.study.effects import Effect
from mmgnn_dist.study.grid import BASE
from mmgnn_dist.study.report.figures import Series, forest
from mmgnn_dist.study.report.report_elements import (
    Figure,
    ReportSection,
    Table,
    number,
    with_spread,
)
from mmgnn_dist.study.report.verdicts import (
    REFERENCES,
    Family,
    GainRow,
    components_table,
    verdict,
    verdict_table,
)
from mmgnn_dist.train.metrics import metric_unit
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
    "same_formula": "text of equal formula",
    "same_scaffold": "text of equal scaffold",
    "renamed": "renamed words",
    "numbers_masked": "text without digits",
    "fingerprint": "graph + fingerprint",
    "random_weights": "untrained encoder",
    "again": "graph again",
}
GAINS = "When does text help?"
AXIS = "gain, % (right of 0: text helps)"


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
            error = metrics["baselines"][f"{kind}/mae/{target}_{metric_unit(results.units[target])}"]
            maes.append(np.nan if error is None else error)
    return float(np.mean(maes)) if maes else np.nan


@dataclass(frozen=True)
class Gained:
    """Comparisons of one variant: graph + text over graph and over shuffled text, and `again` over graph.

    Attributes:
        compared: comparisons of graph + text, one for each backbone and reference.
        again: comparisons of `again`, one for each backbone that has it.
        rows: the effects by target and backbone.
    """

    compared: list[Compared]
    again: list[Compared]
    rows: list[GainRow]


def gained(results: Results, variant: str = BASE) -> Gained:
    """Compare the arms of a variant; rows go target by target, backbone by backbone."""
    backbones = results.backbones_of(variant)
    wanted = [
        (own_reference(results, both, arm), both)
        for both in (Model(backbone, "both", variant) for backbone in backbones)
        for arm in REFERENCES
    ]
    with_again = [b for b in backbones if variant == BASE and Model(b, "again") in results.models]
    wanted += [(Model(backbone, "graph"), Model(backbone, "again")) for backbone in with_again]
    every = compare_models(results, wanted)
    count = len(backbones) * len(REFERENCES)
    compared, again = every[:count], every[count:]
    by_name = {(c.other.backbone, c.reference.arm): c for c in compared}
    by_name |= {(c.other.backbone, "again"): c for c in again}
    rows = []
    for t, target in enumerate(results.targets):
        for backbone in backbones:
            effects: dict[str, Effect | None] = {
                name: by_name[backbone, name].effects[t]
                for name in (*REFERENCES, "again")
                if (backbone, name) in by_name
            }
            rows.append(GainRow(target, backbone, effects))
    return Gained(compared, again, rows)


def both_intervals(one: Compared, t: int) -> dict[str, float]:
    """Both intervals of a comparison for one target, as columns of the CSV."""
    name = one.reference.arm
    out = {
        f"over_{name}_runs_{key}": float(vars(one.runs)[key][t]) for key in ("estimate", "low", "high", "p")
    }
    return one.effects[t].numbers(name) | out


def own_reference(results: Results, model: Model, arm: str) -> Model:
    """Reference of a variant in an arm: that of the variant if it exists, else that of the base."""
    candidate = Model(model.backbone, arm, model.variant)
    return candidate if candidate in results.models else Model(model.backbone, arm)


def gains_section(results: Results, found: Gained, family: Family) -> ReportSection:
    """The main section; only a sentence if no run of the base is done."""
    title = GAINS
    if not results.backbones_of(BASE):
        return ReportSection(title, ["No run of the grid's base is done yet, only variants of it."])
    panels = {}
    for arm in REFERENCES:
        own = [c for c in found.compared if c.reference.arm == arm and np.isfinite(c.test.estimate).any()]
        if own:
            panels[f"graph + text over {SHOWN_NAMES[arm]}"] = [_series(c) for c in own]
    mae = errors(results)
    items: list[Table | Figure] = [
        mae,
        verdict_table("gains", "Gains of text", found.rows, family, BASE),
        components_table("components", found.rows, family),
    ]
    if panels:
        caption = (
            "Gain of graph + text with its 95 % interval over molecules and trainings (where it is not "
            "judged, over test molecules alone), not corrected for several rows."
        )
        items.append(forest("gains", caption, panels, AXIS, results.targets))
    return ReportSection(title, [_over_baselines(mae), *verdict(family, found.rows)], items)


def _over_baselines(table: Table) -> str:
    """Say whether the best and the worst models of a table of errors beat the baselines."""
    best: dict[str, float] = {}
    worst: dict[str, float] = {}
    for row in table.numbers:
        target, baseline = row["target"], min(row["baseline_mean"], row["baseline_composition"])
        best[target] = float(np.fmin(best.get(target, np.nan), share(row["mae"], baseline)))
        worst[target] = float(np.fmax(worst.get(target, np.nan), share(row["mae"], baseline)))
    return baseline_verdict(best, worst)


def _series(comparison: Compared) -> Series:
    return effect_series(comparison.other.backbone, comparison.effects)


def effect_series(label: str, effects: Sequence[Effect]) -> Series:
    """Series of a forest plot: intervals over molecules and trainings, of those not judged over molecules."""
    judged = [np.isfinite(effect.p) for effect in effects]
    low = [e.low if known else e.test_low for e, known in zip(effects, judged, strict=True)]
    high = [e.high if known else e.test_high for e, known in zip(effects, judged, strict=True)]
    return Series(label, range(len(effects)), [effect.estimate for effect in effects], low, high)
