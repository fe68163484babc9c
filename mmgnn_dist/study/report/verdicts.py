"""Verdicts on the rows of a report: one family of tests, one mark, tables of gains and of differences.

A row is a target and a backbone of the base. It is marked if text is better than graph alone and than
shuffled text, each over molecules and over trainings, after Holm's correction over all rows of the report,
numbers and classes together. The rows of other tables are in no family and have no mark. `again` (the graph
arm with another seed) is judged over graph by the same rule in a family of its own: its marks are what the
rule finds where there is nothing to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgnn_dist.study.effects import Effect
from mmgnn_dist.study.report.report_elements import Table, interval, percent, probability, signed
from mmgnn_dist.study.statistics.judgement import LEAST_RUNS
from mmgnn_dist.study.statistics.significance import LEVEL, joined, marked

MARK, NOT_JUDGED = "●", "not judged"
REFERENCES = ("graph", "shuffled")
HOW = (
    "molecules: 95 % interval over test molecules, these trained models (paired bootstrap of identities, "
    "stratified by fold). both: 95 % interval over molecules and trainings (training set and seed: corrected "
    "resampled t). p: the larger of both references and of both sources, "
)
OF_FAMILY = (
    "after Holm over one family, {name}. **●** gain of text: better than graph and than shuffled text, "
    "for other molecules and for another training, at 5 % after correction. again: the graph arm with "
    "another seed over graph, by the same rule; ● there is a false one. " + f"Below {LEAST_RUNS} runs an "
    "arm: not judged."
)
EXPLORED = "not corrected: these rows belong to no family and have no marks."


@dataclass(frozen=True)
class GainRow:
    """A row, with effects by name: of graph + text over `graph` and `shuffled`, of `again` over graph."""

    target: str
    backbone: str
    effects: dict[str, Effect | None]

    def values(self, names: Sequence[str], key: str) -> list[float]:
        """One value of each named effect; NaN without it."""
        found = [self.effects.get(name) for name in names]
        return [np.nan if effect is None else float(getattr(effect, key)) for effect in found]


@dataclass(frozen=True)
class Family:
    """Rows that are tested together.

    Attributes:
        name: what they are, in words.
        rows: the rows.
        p: corrected p-value of each row; NaN where it is not judged.
        marks: whether each row is a gain of text.
        again_p, again_marks: the same of the arm `again`.
    """

    name: str
    rows: list[GainRow]
    p: np.ndarray
    marks: np.ndarray
    again_p: np.ndarray
    again_marks: np.ndarray

    def place(self, row: GainRow) -> int:
        """Place of a row."""
        return next(place for place, own in enumerate(self.rows) if own is row)

    @property
    def level(self) -> float:
        """Level of the first step of Holm's method."""
        return LEVEL / max(int(np.isfinite(self.p).sum()), 1)


def make_family(numbers: list[GainRow], classes: list[GainRow]) -> Family:
    """Judge all rows of the base together."""
    rows = [*numbers, *classes]
    columns = REFERENCES, ("again",)
    judged = []
    for names in columns:
        gains = np.array([row.values(names, "estimate") for row in rows]).reshape(-1, len(names))
        p = np.array([row.values(names, "p") for row in rows]).reshape(-1, len(names))
        judged += list(marked(gains, p))
    kinds = {"gains": numbers, "differences in AUROC": classes}
    shown = " and ".join(f"the {len(part)} rows of {kind}" for kind, part in kinds.items() if part)
    return Family(f"{shown} of this report's base", rows, *judged)


def sign_of(family: Family, row: GainRow) -> str:
    """The mark of a row: a gain, not judged, or nothing."""
    if family.marks[family.place(row)]:
        return MARK
    known, p = (np.isfinite(row.values(REFERENCES, key)) for key in ("estimate", "p"))
    return NOT_JUDGED if known.any() and not p.any() else ""


def verdict_table(
    name: str,
    title: str,
    rows: list[GainRow],
    family: Family | None,
    variant: str,
    is_score: bool = False,
) -> Table:
    """Table of rows of one kind; with a family its p-values are corrected and its gains marked."""
    shown, numbers = [], []
    for row in rows:
        cells = [row.target, row.backbone]
        line: dict[str, object] = {"target": row.target, "backbone": row.backbone, "variant": variant}
        p = float(joined(*(np.array([row.values(REFERENCES, key)]) for key in ("estimate", "p")))[0])
        if family is not None:
            place = family.place(row)
            p = float(family.p[place])
            cells.append(sign_of(family, row))
            line |= {"gain_of_text": bool(family.marks[place]), "judged": bool(np.isfinite(p))}
        for reference in REFERENCES:
            effect = row.effects.get(reference)
            cells += _shown(effect, is_score)
            line |= effect.numbers(reference) if effect else {}
        cells.append(probability(p))
        line["p_corrected" if family else "p"] = p
        if family is not None and (again := row.effects.get("again")) is not None:
            place = family.place(row)
            sign = f" {MARK}" if family.again_marks[place] else ""
            cells.append(f"{_one(again.estimate, is_score)}{sign}")
            line |= again.numbers("graph_by_again") | {"again_marked": bool(family.again_marks[place])}
            line["again_p_corrected"] = float(family.again_p[place])
        elif family is not None:
            cells.append("–")
        shown.append(cells)
        numbers.append(line)
    unit = "" if is_score else ", %"
    columns = ["target", "backbone"] + [""] * (family is not None)
    columns += [f"over graph{unit}", "molecules", "both", f"over shuffled{unit}", "molecules", "both", "p"]
    columns += [f"again{unit}"] * (family is not None)
    meaning = (
        "How much higher the AUROC of graph + text is than that of the reference (higher is better). "
        if is_score
        else "gain: how much lower the error of graph + text is than that of the reference, in percent. "
    )
    note = meaning + HOW + (OF_FAMILY.format(name=family.name) if family else EXPLORED)
    return Table(name, title, columns, shown, numbers, note, words=2 + (family is not None))


def _shown(effect: Effect | None, is_score: bool) -> list[str]:
    if effect is None:
        return ["–"] * 3
    bounds = (effect.test_low, effect.test_high), (effect.low, effect.high)
    return [_one(effect.estimate, is_score), *(_interval(*pair, is_score) for pair in bounds)]


def _one(value: float, is_score: bool) -> str:
    return signed(value, 3) if is_score else percent(value)


def _interval(low: float, high: float, is_score: bool) -> str:
    return interval(low, high, 3 if is_score else 1)


def components_table(name: str, rows: list[GainRow], family: Family, is_score: bool = False) -> Table:
    """Components of the variance of each effect, and the smallest effect that its test finds."""
    shown, numbers = [], []
    digits = 4 if is_score else 1
    for row in rows:
        for reference in ("graph", "shuffled", "again"):
            effect = row.effects.get(reference)
            if effect is None:
                continue
            parts = effect.molecules, effect.by_training, effect.by_seed
            least = effect.detectable(family.level)
            label = "again over graph" if reference == "again" else f"graph + text over {reference}"
            cells = [f"{v:.{digits}f}" if np.isfinite(v) else "–" for v in (*parts, least)]
            shown.append([row.target, row.backbone, label, f"{effect.folds} × {effect.seeds}", *cells])
            keys = ("molecules", "training_sets", "seeds", "detectable")
            line = {"target": row.target, "backbone": row.backbone, "effect": label}
            numbers.append(line | dict(zip(keys, (*parts, least), strict=True)))
    unit = "AUROC" if is_score else "% of the error"
    columns = ["target", "backbone", "effect", "folds × seeds"]
    columns += [f"{part}, {unit}" for part in ("molecules", "training sets", "seeds", "found in 4 of 5")]
    note = (
        "molecules: standard error of the effect over test molecules. training sets, seeds: standard "
        "deviation of the effects of single runs between folds and between seeds of a fold (one-way "
        "random model; with one seed the first has both). found in 4 of 5: the smallest effect that a "
        "test at the level of Holm's first step finds with a probability of 80 %, by the scatter of this "
        "row."
    )
    return Table(name, "Where the uncertainty comes from", columns, shown, numbers, note, words=4)


def verdict(family: Family, rows: list[GainRow], is_score: bool = False) -> list[str]:
    """Summarise rows of one kind in sentences."""
    lines = []
    for backbone in dict.fromkeys(row.backbone for row in rows):
        own = [row for row in rows if row.backbone == backbone]
        lines.append(_of_backbone(family, backbone, own, is_score))
    if rows and all(np.isnan(row.values(["shuffled"], "estimate")[0]) for row in rows):
        lines.append("No run with shuffled text is done, so no gain counts as a gain of text.")
    again = [row for row in rows if row.effects.get("again") is not None]
    if again:
        false = [row for row in again if family.again_marks[family.place(row)]]
        names = ", ".join(f"{row.target} ({row.backbone})" for row in false)
        lines.append(
            f"Again (the graph arm with another seed) is marked on {len(false)} of {len(again)} rows"
            + (f": {names}. What this rule calls a gain has no more weight than that." if false else ".")
        )
    return lines


def _of_backbone(family: Family, backbone: str, rows: list[GainRow], is_score: bool) -> str:
    """Sentence on the rows of one backbone."""
    kind = "classes" if is_score else "targets"
    graph = [row.effects.get("graph") for row in rows]
    known = [effect for effect in graph if effect is not None and np.isfinite(effect.estimate)]
    if not known:
        return f"**{backbone}**: no fold is done both with and without text."
    better = [row.target for row, e in zip(rows, graph, strict=True) if e is not None and e.test_low > 0]
    worse = [row.target for row, e in zip(rows, graph, strict=True) if e is not None and e.test_high < 0]
    tail = (
        f" Over test molecules alone the interval against graph is above zero on {len(better)} and below on "
        f"{len(worse)}" + (f" ({', '.join(worse)})" if worse else "") + "."
    )
    if not any(np.isfinite(effect.p) for effect in known):
        return f"**{backbone}**: not judged, below {LEAST_RUNS} runs an arm.{tail}"
    gained = [
        f"{row.target} ({_one(row.values(['graph'], 'estimate')[0], is_score)}{'' if is_score else ' %'})"
        for row in rows
        if family.marks[family.place(row)]
    ]
    listed = f": {', '.join(gained)}" if gained else ""
    return f"**{backbone}**: gain of text on {len(gained)} of {len(rows)} {kind}{listed}.{tail}"
