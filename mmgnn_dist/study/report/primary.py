"""The primary endpoint: the mean gain of text over distinct targets and all backbones, one test a report."""

from __future__ import annotations

import numpy as np

from mmgnn_dist.data.shardset.references import composition, labels
from mmgnn_dist.study.collect import Results
from mmgnn_dist.study.compare import Compared, mean_effect
from mmgnn_dist.study.report.gains import SHOWN_NAMES
from mmgnn_dist.study.report.report_elements import ReportSection, Table, interval, percent, probability
from mmgnn_dist.study.report.verdicts import MARK, REFERENCES
from mmgnn_dist.study.statistics.distinct_targets import NEARLY, distinct_targets
from mmgnn_dist.study.statistics.judgement import LEAST_RUNS
from mmgnn_dist.study.statistics.significance import LEVEL

PRIMARY = "Primary endpoint"


def distinct_places(results: Results) -> tuple[list[int], dict[int, float]]:
    """Places of the targets of which none is nearly given by others; explained shares of those left out."""
    y = labels(results.shards, results.rows, results.targets)
    return distinct_targets(y, composition(results.shards, results.rows))


def primary_section(
    results: Results, compared: list[Compared], again: list[Compared]
) -> ReportSection | None:
    """The one answer whether text helps, over graph and over shuffled text; None without targets."""
    if not compared:
        return None
    kept, left_out = distinct_places(results)
    rows, numbers, found = [], [], {}
    kinds = [(name, [c for c in compared if c.reference.arm == name]) for name in REFERENCES]
    kinds.append(("again", again))
    backbones = list(dict.fromkeys(c.other.backbone for c in compared))
    for name, every in kinds:
        groups = [("all backbones", every)] if len(backbones) > 1 else []
        groups += [(c.other.backbone, [c]) for c in every]
        for label, chosen in groups:
            effect = mean_effect(results, chosen, kept)
            if effect is None:
                continue
            if label == "all backbones" or len(backbones) == 1:
                found[name] = effect
            title = "again over graph" if name == "again" else f"graph + text over {SHOWN_NAMES[name]}"
            parts = [effect.molecules, effect.by_training, effect.by_seed, effect.detectable(LEVEL)]
            rows.append(
                [title, label, percent(effect.estimate), interval(effect.test_low, effect.test_high)]
                + [interval(effect.run_low, effect.run_high), probability(effect.run_p)]
                + [interval(effect.low, effect.high), probability(effect.p)]
                + [f"{effect.folds} × {effect.seeds}"]
                + [f"{value:.1f}" if np.isfinite(value) else "–" for value in parts]
            )
            numbers.append({"effect": title, "backbone": label} | effect.numbers("reference"))
    columns = ["effect", "backbone", "mean gain, %", "molecules", "trainings", "p of trainings", "both", "p"]
    columns += ["folds × seeds"]
    columns += ["molecules, %", "training sets, %", "seeds, %", "found in 4 of 5, %"]
    note = (
        "Mean over targets (and backbones) of the log ratio of the errors of a replicate (training set "
        "and seed), in percent. Intervals and components as below; p at 5 %, one test over graph and one "
        "over shuffled text, of which both must hold. The rows of single backbones say where it comes "
        "from and are no test."
    )
    table = Table("primary", "Mean gain", columns, rows, numbers, note, words=2)
    section = ReportSection(PRIMARY, [_rule(results, kept, left_out)], [table])
    effects = [found.get(name) for name in REFERENCES]
    known = [effect for effect in effects if effect is not None]
    assert results.recipe.study is not None
    if "shuffled" not in results.recipe.study.arms and found.get("graph"):
        gain = found["graph"]
        section.text.append(
            f"{percent(gain.estimate)} % over graph: over trainings p {probability(gain.run_p)}, over "
            f"molecules too p {probability(gain.p)}. Without an arm of shuffled text no gain counts as a "
            "gain of text by the rule of this report; the study's own design says what is claimed."
        )
    elif len(known) < len(REFERENCES):
        section.text.append("It needs runs with and without text and with shuffled text, in the same folds.")
    elif not all(np.isfinite(effect.p) for effect in known):
        section.text.append(f"**Not judged**: below {LEAST_RUNS} runs an arm.")
    else:
        holds = all(effect.estimate > 0 and effect.p <= LEVEL for effect in known)
        verdict = f"**{MARK} Text helps**" if holds else "**No gain of text is shown**"
        over = " and ".join(
            f"{percent(effect.estimate)} % over {SHOWN_NAMES[name]} (p {probability(effect.p)})"
            for name, effect in zip(REFERENCES, known, strict=True)
        )
        section.text.append(f"{verdict}: {over}.")
    return section


def _rule(results: Results, kept: list[int], left_out: dict[int, float]) -> str:
    """Say which targets are averaged and why others are not."""
    names = ", ".join(results.targets[place] for place in kept)
    text = f"The mean gain over {len(kept)} distinct target{'s' if len(kept) > 1 else ''}: {names}."
    if left_out:
        gone = ", ".join(f"{results.targets[place]} ({share:.3f})" for place, share in left_out.items())
        text += (
            f" Left out: {gone}, of which a linear fit on the others explains a share of {NEARLY} or more "
            "of what "
            "composition leaves."
        )
    return text
