"""Report sections on the other arms and variants: controls, fusions, text modes and single fields."""

from __future__ import annotations

from mmgnn_dist.study.collect import Model, Results
from mmgnn_dist.study.compare import compare_models, mean_gain
from mmgnn_dist.study.report.figures import Series, forest
from mmgnn_dist.study.report.gains import SHOWN_NAMES, both_intervals, errors, gained, shown_name
from mmgnn_dist.study.report.report_elements import (
    Figure,
    ReportSection,
    Table,
    interval,
    percent,
    probability,
)
from mmgnn_dist.study.report.verdicts import EXPLORED, verdict_table


def controls_section(results: Results) -> ReportSection | None:
    """Gains of graph + text over every other arm."""
    arms = [arm for arm in results.arms() if arm not in ("both", "graph", "shuffled", "again")]
    wanted = [(Model(b, arm), Model(b, "both")) for arm in arms for b in results.backbones]
    comparisons = compare_models(
        results, [w for w in wanted if w[0] in results.models and w[1] in results.models]
    )
    if not comparisons:
        return None
    rows, numbers = [], []
    for arm in dict.fromkeys(c.reference.arm for c in comparisons):
        arm_comparisons = [c for c in comparisons if c.reference.arm == arm]
        for t, target in enumerate(results.targets):
            for c in arm_comparisons:
                effect = c.effects[t]
                rows.append(
                    [
                        SHOWN_NAMES[arm],
                        target,
                        c.other.backbone,
                        percent(effect.estimate),
                        interval(effect.test_low, effect.test_high),
                        interval(effect.low, effect.high),
                        probability(effect.p),
                    ]
                )
                line = {"reference": arm, "target": target, "backbone": c.other.backbone, "p": effect.p}
                for kind, gains in (("test", c.test), ("runs", c.runs)):
                    line |= {f"{kind}_{key}": vars(gains)[key][t] for key in ("estimate", "low", "high", "p")}
                numbers.append(line)
    columns = ["reference", "target", "backbone", "gain, %", "molecules", "both", "p"]
    note = f"Gain of graph + text over the reference; p over molecules and trainings, {EXPLORED}"
    text = [
        "What the text branch is worth with nothing to read: zero text has the branch and its parameters "
        "but no "
        "words, random text words drawn by chance, wider graph as many parameters and no branch."
    ]
    table = Table("controls", "Gains over other references", columns, rows, numbers, note, words=3)
    return ReportSection("Controls", text, [table])


def variants_section(results: Results) -> ReportSection | None:
    """Errors and gains with other fusions and text modes."""
    section = ReportSection("Fusions and text modes")
    for variant in [*results.variants("fusion"), *results.variants("mode")]:
        rows = gained(results, variant).rows
        table = verdict_table(f"gains_{variant}", f"Gains, {shown_name(variant)}", rows, None, variant)
        section.items += [errors(results, variant), table]
    return section if section.items else None


def fields_section(results: Results) -> ReportSection | None:
    """Contribution of single fields: without one field against all fields, one field alone against graph."""
    section = ReportSection("Which field carries the gain?")
    kinds = (
        (
            "without",
            "both",
            "Without one field",
            "change when it is left out: negative where the field helps",
        ),
        ("alone", "graph", "One field alone", "gain over graph alone"),
    )
    for kind, arm, title, note in kinds:
        pairs = []
        for variant in results.variants(kind):
            for backbone in results.backbones:
                other = Model(backbone, "both", variant)
                if other in results.models and Model(backbone, arm) in results.models:
                    pairs.append((variant.removeprefix(f"{kind}-"), Model(backbone, arm), other))
        if pairs:
            section.items += _field_items(results, kind, title, note, pairs)
    return section if section.items else None


def _field_items(
    results: Results, kind: str, title: str, note: str, pairs: list[tuple[str, Model, Model]]
) -> list[Table | Figure]:
    compared = compare_models(results, [(reference, other) for _, reference, other in pairs])
    rows, numbers = [], []
    drawn: dict[str, list[tuple[int, float, float, float]]] = {}
    names = list(dict.fromkeys(name for name, _, _ in pairs))
    for (name, _, other), comparison in zip(pairs, compared, strict=True):
        over_all = mean_gain(results, comparison.reference, other)
        drawn.setdefault(other.backbone, []).append((names.index(name), *over_all))
        shown = [name, other.backbone, f"{percent(over_all[0])} {interval(*over_all[1:])}"]
        for t, target in enumerate(results.targets):
            shown.append(percent(comparison.test.estimate[t]))
            numbers.append(
                {
                    "kind": kind,
                    "field": name,
                    "backbone": other.backbone,
                    "target": target,
                    **both_intervals(comparison, t),
                }
            )
        rows.append(shown)
    columns = ["field", "backbone", "all targets, % and molecules", *results.targets]
    table_note = f"In percent, {note}; molecules: 95 % interval over test molecules alone. No row has a mark."
    series = [Series(backbone, *zip(*points, strict=True)) for backbone, points in drawn.items()]
    caption = f"{title}, mean over all targets with the interval over test molecules: {note}."
    figure = forest(f"fields_{kind}", caption, {title.lower(): series}, "change, %", names)
    return [figure, Table(f"fields_{kind}", title, columns, rows, numbers, table_note, words=2)]
