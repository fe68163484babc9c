"""Recomputed steps beside those of the journal: bit-equal, equal to rounding, or different.

On the machine of the run, with as many ranks and threads and the same versions, every bit must be equal.
Where any of these is another, sums are taken in another order, and losses may differ by rounding, which
grows from step to step. How fast it grows depends on the model and its data, so it is measured: a second
recomputation begins with weights of which each is changed as if it had been rounded once. Losses are equal
to rounding if they differ by no more than `SAFETY` times what the second one differs by, up to the same
step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from mmgnn_dist.run_records import JournalLine

Verdict = Literal["bit-equal", "equal to rounding", "different"]
SAFETY = 16.0  # a rounding in every operation of a step, not one in every weight
ROUNDED = 2.0**-24  # relative error of one rounding to float32
USEFUL = 0.01  # bounds above this share of the loss would pass nearly everything: such steps are not judged


@dataclass(frozen=True)
class Comparison:
    """Result for a window of steps.

    Attributes:
        verdict: bit-equal, equal to rounding, or different.
        compared: number of steps that were compared, up to the first difference.
        weights: numbers of steps before which the weights were compared, all equal but that of `step`.
        step: first step that differs; None without any.
        what: what differs there.
        deviation: largest difference of a loss, as a share of the loss.
        bound: largest bound of this difference; None where bits must be equal.
    """

    verdict: Verdict
    compared: int
    weights: list[int]
    step: int | None = None
    what: str = ""
    deviation: float = 0.0
    bound: float | None = None


def difference(recorded: JournalLine, again: JournalLine) -> str | None:
    """Return the first thing that differs in any bit between two lines of a step; None without any."""
    if (other := other_molecules(recorded, again)) or (other := other_weights(recorded, again)):
        return other
    if recorded.get("lr") != again.get("lr"):
        return f"learning rates: {recorded.get('lr')} in the journal, {again.get('lr')} here"
    if recorded.get("loss") != again.get("loss"):
        return f"loss: {recorded.get('loss')} in the journal, {again.get('loss')} here"
    return None


def other_molecules(recorded: JournalLine, again: JournalLine) -> str | None:
    """Return how the molecules of two lines of a step differ; None if they are the same or not recorded."""
    if recorded["kind"] != again["kind"]:
        words = {"train": "taken", "skipped": "left out"}
        return f"the step was {words[recorded['kind']]} by the run and is {words[again['kind']]} here"
    if "molecules_hash" in recorded and recorded["molecules_hash"] != again["molecules_hash"]:
        return "other molecules"
    return None


def other_weights(recorded: JournalLine, again: JournalLine) -> str | None:
    """Return how the weights before a step differ; None if they are the same or not recorded."""
    here = again.get("weights_hash")
    if here is None or recorded.get("weights_hash", here) == here:
        return None
    return f"weights before the step: {recorded['weights_hash']} in the journal, {here} here"


def compare_bits(recorded: Mapping[int, JournalLine], again: Sequence[JournalLine]) -> Comparison:
    """Compare recomputed steps with those of the journal, bit for bit."""
    weights: list[int] = []
    for number, line in enumerate(again, 1):
        step = line["step"]
        if "weights_hash" in line and "weights_hash" in recorded[step]:
            weights.append(step)
        if what := difference(recorded[step], line):
            return Comparison("different", number, weights, step, what)
    return Comparison("bit-equal", len(again), weights)


def compare_rounded(
    recorded: Mapping[int, JournalLine], again: Sequence[JournalLine], disturbed: Sequence[JournalLine]
) -> Comparison:
    """Compare recomputed steps with those of the journal, to the rounding that a second one shows.

    Args:
        recorded: lines of the journal by step.
        again: recomputed steps.
        disturbed: the same steps, recomputed from weights that are rounded once.
    """
    shown = [abs(a.get("loss", 0.0) - b.get("loss", 0.0)) for a, b in zip(again, disturbed, strict=True)]
    first, largest, widest = again[0], 0.0, 0.0
    if what := other_weights(recorded[first["step"]], first):
        return Comparison("different", 1, [first["step"]], first["step"], what)
    weights = [first["step"]] if "weights_hash" in recorded[first["step"]] else []
    for number, (line, most) in enumerate(zip(again, accumulate(shown, max), strict=True), 1):
        step, loss = line["step"], abs(line.get("loss", 0.0))
        bound = SAFETY * max(most, ROUNDED * loss)
        if bound > USEFUL * loss and loss:
            return Comparison("equal to rounding", number - 1, weights, None, "", largest, widest)
        deviation = abs(recorded[step].get("loss", 0.0) - line.get("loss", 0.0))
        share = deviation / loss if loss else deviation
        if what := other_molecules(recorded[step], line):
            return Comparison("different", number, weights, step, what, largest, widest)
        widest = max(widest, bound / loss if loss else bound)
        if deviation > bound:
            losses = f"{recorded[step].get('loss')} in the journal, {line.get('loss')} here"
            what = f"loss: {losses}, bound {bound:.2g}"
            return Comparison("different", number, weights, step, what, max(share, largest), widest)
        largest = max(largest, share)
    equal = all(difference(recorded[line["step"]], line) is None for line in again)
    return Comparison(
        "bit-equal" if equal else "equal to rounding", len(again), weights, None, "", largest, widest
    )
