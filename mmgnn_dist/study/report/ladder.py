"""What carries a gain of text: steps between arms that differ in one thing, mean gains over targets.

A step is the gain of one arm over another that lacks one thing. The steps from graph to graph + text, each
over the nearest arm below that the study has:

    identity      shuffled over graph                  a text for each molecule that says nothing of it
    composition   same_formula over shuffled           what the text of any molecule of this formula tells
    bond graph    fingerprint over same_formula        what the bond graph tells in the same branch
    name itself   graph + text over fingerprint        what the name gives beyond it
    meaning       graph + text over same_formula       the right text rather than that of another molecule of
                                                       this formula; bond graph and name itself together
    scaffold      same_scaffold over shuffled          what the text of any molecule of this scaffold tells
    numbers       graph + text over numbers_masked     locants and counts in the text
    known words   graph + text over renamed            that the encoder knows these words from its training
    known language graph + text over random_weights    that the encoder was trained at all

`again` over graph has nothing to find. The rows describe; the claims of a study are those of its design.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmgnn_dist.study.collect import Model, Results
from mmgnn_dist.study.compare import compare_models, mean_effect
from mmgnn_dist.study.effects import Effect
from mmgnn_dist.study.report.gains import SHOWN_NAMES
from mmgnn_dist.study.report.primary import distinct_places
from mmgnn_dist.study.report.report_elements import ReportSection, Table, interval, percent, probability
from mmgnn_dist.study.statistics.significance import LEVEL

LADDER = "What carries the gain"
HOW_TO_READ = (
    "identity: a text that tells one molecule from another, and nothing else. composition: the text of "
    "another molecule of equal formula. bond graph: a fingerprint (ECFP4) in the place of the language "
    "model. name itself: the text beyond the fingerprint. meaning: the right text rather than that of "
    "another molecule of equal formula. known words: that the encoder knows these words, over the same text "
    "in a permuted vocabulary. known language: over an encoder that was never trained."
)


@dataclass(frozen=True)
class Rung:
    """A step between two arms: its name, the arm that has something, arms that lack it, nearest first."""

    name: str
    arm: str
    below: tuple[str, ...]


RUNGS = (
    Rung("whole", "both", ("graph",)),
    Rung("branch", "zero", ("graph",)),
    Rung("identity", "shuffled", ("zero", "graph")),
    Rung("composition", "same_formula", ("shuffled", "zero", "graph")),
    Rung("bond graph", "fingerprint", ("same_formula", "shuffled", "zero", "graph")),
    Rung("name itself", "both", ("fingerprint",)),
    Rung("meaning", "both", ("same_formula",)),
    Rung("scaffold", "same_scaffold", ("shuffled", "zero", "graph")),
    Rung("numbers", "both", ("numbers_masked",)),
    Rung("known words", "both", ("renamed",)),
    Rung("known language", "both", ("random_weights",)),
    Rung("nothing", "again", ("graph",)),
)
# arms without which there is nothing to take apart
TAKING_APART = (
    *("same_formula", "same_scaffold", "numbers_masked"),
    *("renamed", "fingerprint", "random_weights"),
)


def steps_of(arms: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (name, arm, arm below) of the steps between some arms."""
    for step in RUNGS:
        below = next((arm for arm in step.below if arm in arms), None)
        if step.arm in arms and below is not None:
            yield step.name, step.arm, below


def ladder_section(results: Results) -> ReportSection | None:
    """Steps of every backbone and of all together; None without an arm that takes the gain apart."""
    arms = results.arms()
    if not results.targets or not set(TAKING_APART) & set(arms):
        return None
    kept, _ = distinct_places(results)
    steps = list(steps_of(arms))
    wanted = [
        (Model(backbone, below), Model(backbone, arm))
        for _, arm, below in steps
        for backbone in results.backbones
        if {Model(backbone, below), Model(backbone, arm)} <= set(results.models)
    ]
    compared = compare_models(results, wanted)
    rows, numbers = [], []
    for name, arm, below in steps:
        own = [c for c in compared if (c.reference.arm, c.other.arm) == (below, arm)]
        groups = [("all backbones", own)] if len(own) > 1 else []
        for label, chosen in [*groups, *((c.other.backbone, [c]) for c in own)]:
            effect = mean_effect(results, chosen, kept)
            if effect is not None:
                title = f"{SHOWN_NAMES[arm]} over {SHOWN_NAMES[below]}"
                rows.append([name, title, label, *_shown(effect)])
                line = {"step": name, "arm": arm, "reference": below, "backbone": label}
                numbers.append(line | effect.numbers("reference"))
    columns = ["step", "effect", "backbone", "mean gain, %", "trainings", "p", "both", "p", "folds × seeds"]
    columns += ["training sets, %", "found in 4 of 5, %"]
    table = Table(
        "ladder", "Steps from graph to graph + text", columns, rows, numbers, _note(results), words=3
    )
    return ReportSection(LADDER, [HOW_TO_READ], [table])


def _note(results: Results) -> str:
    test = (
        "the training sets share no molecule, so this is a paired t over them"
        if results.disjoint
        else "corrected resampled t"
    )
    return (
        "Mean over distinct targets of the log ratio of the errors of a replicate, in percent. trainings: "
        f"95 % interval and p over training sets and seeds, for these test molecules; {test}. both: over "
        "molecules too. training sets: standard deviation of the effect between them (with seeds of their "
        "own, of the seeds too). found in 4 of 5: the gain that a test at 5 % over both finds with a "
        "probability of 80 %. No row is corrected for the others or has a mark."
    )


def _shown(effect: Effect) -> list[str]:
    """Cells of an effect."""
    parts = effect.by_training, effect.detectable(LEVEL)
    return [
        percent(effect.estimate),
        interval(effect.run_low, effect.run_high),
        probability(effect.run_p),
        interval(effect.low, effect.high),
        probability(effect.p),
        f"{effect.folds} × {effect.seeds}",
        *(f"{value:.1f}" if np.isfinite(value) else "–" for value in parts),
    ]
