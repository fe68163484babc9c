"""Report section on targets that are classes: scores by arm, and differences in AUROC with a verdict.

Scores are never mixed with errors: they have tables of their own, in which higher is better.
"""

from __future__ import annotations

import numpy as np

from mmgnn_dist.config.sweep import CLASS_METRICS
from mmgnn_dist.study.collect import Model, Results, model_of
from mmgnn_dist.study.compare import compare_classes
from mmgnn_dist.study.effects import Effect
from mmgnn_dist.study.grid import BASE
from mmgnn_dist.study.report.figures import Series, forest
from mmgnn_dist.study.report.gains import SHOWN_NAMES, effect_series, own_reference, shown_name
from mmgnn_dist.study.report.report_elements import (
    Figure,
    ReportSection,
    Table,
    interval,
    number,
    probability,
    signed,
    with_spread,
)
from mmgnn_dist.study.report.verdicts import (
    EXPLORED,
    REFERENCES,
    Family,
    GainRow,
    components_table,
    verdict,
    verdict_table,
)
from mmgnn_dist.train.report.class_metrics import CLASS_TITLES

CLASSES = "Classes: when does text help?"
AXIS = "difference in AUROC (right of 0: text helps)"


def class_rows(results: Results) -> list[GainRow]:
    """Effects of the base by class and backbone: of graph + text, and of `again`."""
    rows = []
    for target in results.classes:
        backbones = [b for b in results.backbones_of(BASE) if _has(results, target, b)]
        pairs = [(b, name) for b in backbones for name in (*REFERENCES, "again")]
        wanted = [
            (Model(b, "graph"), Model(b, "again")) if name == "again" else (Model(b, name), Model(b, "both"))
            for b, name in pairs
        ]
        found = dict(zip(pairs, compare_classes(results, target, wanted), strict=True))
        rows += [
            GainRow(target, b, {name: found[b, name] for name in (*REFERENCES, "again")}) for b in backbones
        ]
    return rows


def _has(results: Results, target: str, backbone: str) -> bool:
    return any(model.backbone == backbone and name == target for model, name in results.chances)


def classes_section(results: Results, rows: list[GainRow], family: Family) -> ReportSection | None:
    """Scores, differences and verdicts; None without a class."""
    if not results.classes:
        return None
    items: list[Table | Figure] = [scores(results)]
    if rows:
        items += [
            verdict_table("class_gains", "Differences in AUROC", rows, family, BASE, is_score=True),
            components_table("class_components", rows, family, is_score=True),
        ]
    panels = {}
    targets = list(results.classes)
    for arm in REFERENCES:
        series = _series(rows, arm, targets)
        if series:
            panels[f"graph + text over {SHOWN_NAMES[arm]}"] = series
    if panels:
        caption = (
            "AUROC of graph + text minus that of the reference with its 95 % interval over molecules and "
            "trainings (where it is not judged, over test molecules alone), not corrected for several "
            "rows."
        )
        items.append(forest("class_gains", caption, panels, AXIS, targets))
    others = _others(results)
    if others.rows:
        items.append(others)
    return ReportSection(CLASSES, verdict(family, rows, is_score=True), items)


def _series(rows: list[GainRow], arm: str, targets: list[str]) -> list[Series]:
    """Series of each backbone, at the places of its targets."""
    out = []
    for backbone in dict.fromkeys(row.backbone for row in rows):
        found: list[tuple[int, Effect]] = []
        for row in rows:
            effect = row.effects.get(arm)
            if row.backbone == backbone and effect is not None:
                found.append((targets.index(row.target), effect))
        if found:
            series = effect_series(backbone, [effect for _, effect in found])
            series.x = [place for place, _ in found]
            out.append(series)
    return out


def scores(results: Results) -> Table:
    """AUROC, AUPRC and balanced accuracy of every model: mean and standard deviation over folds and seeds."""
    rows, numbers = [], []
    for target in results.classes:
        models = [model for model in results.models if (model, target) in results.chances]
        for metric in CLASS_METRICS:
            key = f"{metric}/{target}"
            baselines = [_values(results, target, None, f"{kind}/{key}") for kind in ("mean", "composition")]
            for backbone in dict.fromkeys(model.backbone for model in models):
                own = [model for model in models if model.backbone == backbone]
                for variant in dict.fromkeys(model.variant for model in own):
                    shown = [target, CLASS_TITLES[metric], backbone, shown_name(variant)]
                    shown += [number(_mean(values)) for values in baselines]
                    for arm in _arms(results):
                        values = _values(results, target, Model(backbone, arm, variant), f"test/{key}")
                        mean, spread = _mean(values), values.std(ddof=1) if len(values) > 1 else np.nan
                        shown.append(with_spread(mean, float(spread)))
                        line = {"target": target, "metric": metric, "backbone": backbone, "arm": arm}
                        numbers.append(
                            line
                            | {"variant": variant, "mean": mean, "sd": spread, "runs": len(values)}
                            | {"prevalence": _mean(baselines[0]), "composition": _mean(baselines[1])}
                        )
                    rows.append(shown)
    columns = ["target", "score", "backbone", "variant", "prevalence", "logistic fit"]
    columns += [SHOWN_NAMES[arm] for arm in _arms(results)]
    note = (
        "On the test part, higher is better: mean ± standard deviation over folds and seeds. prevalence, "
        "logistic fit: what the shares of the classes in the training part and a logistic fit on "
        "composition reach. Two classes: AUROC and AUPRC of the second; more: the mean over the classes, "
        "each against the rest."
    )
    return Table("class_scores", "Scores", columns, rows, numbers, note, words=4)


def _arms(results: Results) -> list[str]:
    return list(dict.fromkeys(model.arm for model in results.models))


def _values(results: Results, target: str, model: Model | None, name: str) -> np.ndarray:
    """A metric of each run of a model, or of the base if it is None; only where it is defined."""
    found = []
    for cell, metrics in results.metrics.items():
        if target in cell.targets and (cell.variant == BASE if model is None else model_of(cell) == model):
            value = metrics["baselines" if model is None else "metrics"][name]
            found += [] if value is None else [value]
    return np.array(found)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _others(results: Results) -> Table:
    """Differences of graph + text over the other arms, and of the variants, none of them in the family."""
    rows, numbers = [], []
    for target in results.classes:
        pairs = _other_pairs(results, target)
        for (title, models), effect in zip(
            pairs, compare_classes(results, target, [models for _, models in pairs]), strict=True
        ):
            if effect is None:
                continue
            shown = [target, models[1].backbone, title, signed(effect.estimate, 3)]
            shown += [interval(effect.test_low, effect.test_high, 3), interval(effect.low, effect.high, 3)]
            rows.append([*shown, probability(effect.p)])
            line = {"target": target, "backbone": models[1].backbone, "comparison": title}
            numbers.append(line | effect.numbers("reference"))
    columns = ["target", "backbone", "comparison", "difference", "molecules", "both", "p"]
    note = (
        f"Differences in AUROC, above zero if the first has more; p over molecules and trainings, {EXPLORED}"
    )
    return Table("class_others", "Other comparisons", columns, rows, numbers, note, words=3)


def _other_pairs(results: Results, target: str) -> list[tuple[str, tuple[Model, Model]]]:
    """Title and models (reference, other) of each comparison beside those of the family."""
    known = [model for model in results.models if (model, target) in results.chances]
    pairs = []
    for model in known:
        both = Model(model.backbone, "both")
        if model.variant == BASE:
            if model.arm not in ("both", "again", *REFERENCES) and both in known:
                pairs.append((f"graph + text over {SHOWN_NAMES[model.arm]}", (model, both)))
        elif model.arm == "both":
            kind = model.variant.split("-")[0]
            arms = {"without": ("both",), "alone": ("graph",)}.get(kind, REFERENCES)
            for arm in arms:
                reference = both if arm == "both" else own_reference(results, model, arm)
                if reference in known:
                    title = f"{shown_name(model.variant)} over {SHOWN_NAMES[arm]}"
                    pairs.append((title, (reference, model)))
    return pairs
