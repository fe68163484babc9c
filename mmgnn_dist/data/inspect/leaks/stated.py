"""Labels that stand in the text in digits, in any unit of their dimension and rounded as people round.

A number of three or more significant digits, or of two with a decimal, states a label where it is the label
rounded to its last digit, without regard to the sign. How often this happens by chance is counted with the
labels of other molecules of the same size; only what is far beyond chance is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmgnn_dist.chem.targets import DIMENSIONS
from mmgnn_dist.data.inspect.leaks.content import Content
from mmgnn_dist.data.inspect.leaks.finding import AuditFinding, first_examples
from mmgnn_dist.data.inspect.leaks.numbers_in_text import WrittenNumbers, written_numbers

DIGITS = 3  # significant digits; of two there has to be a decimal (see `explained` for the others)
WHOLE = 0.4  # half a unit of the last digit of whole numbers is more
SHIFTS = 8  # other molecules whose labels show what chance does
FLOAT32 = 2e-7  # relative precision of the numeric text fields
KIND = "labels in digits"


def stated_labels(content: Content) -> Iterator[AuditFinding]:
    """Yield a finding for each text field and target whose label stands in the field."""
    others = _others(content.sizes)
    for field, numbers in _numbers(content):
        for column, target in enumerate(content.shards.targets):
            found = _stated(numbers, content.y[:, column], content.shards.units[target], others)
            if found is not None:
                unit, rows = found
                yield AuditFinding(
                    KIND,
                    "leak",
                    f"{target} [{unit}] in {field}",
                    len(rows),
                    len(np.unique(numbers.row)),
                    first_examples(content.ids[rows]),
                    f"take the number out of the text, or leave {field} out of text.fields",
                )


def units_like(unit: str) -> dict[str, float]:
    """Return the units of the dimension of a unit, each with the factor that converts it to that unit."""
    for units in DIMENSIONS.values():
        if unit in units:
            return {name: factor / units[unit] for name, factor in units.items()}
    return {unit: 1.0}


def _numbers(content: Content) -> Iterator[tuple[str, WrittenNumbers]]:
    """Yield the numbers of each text field that are precise enough."""
    for field, texts in content.texts.items():
        numbers = written_numbers(texts)
        fine = (numbers.digits >= DIGITS) | ((numbers.digits == DIGITS - 1) & (numbers.half < WHOLE))
        yield field, WrittenNumbers(*(getattr(numbers, name)[fine] for name in numbers.__dataclass_fields__))
    for field, values in content.context.items():
        rows = np.flatnonzero(np.isfinite(values) & (values != np.round(values, 1)))
        size = np.abs(values[rows])
        half = np.maximum(size * FLOAT32, 0.5 * 10.0 ** -_decimals(size))
        yield field, WrittenNumbers(rows, np.zeros_like(rows), size, half, np.full(len(rows), DIGITS))


def _decimals(values: np.ndarray) -> np.ndarray:
    """Return with how many decimals float32 values are written, from 2 to 6."""
    decimals = np.full(len(values), 6.0)
    for number in (5, 4, 3, 2):
        decimals[np.abs(values - np.round(values, number)) <= FLOAT32 * values] = number
    return decimals


def _others(sizes: np.ndarray) -> np.ndarray:
    """Return for each molecule some others of about its size, int64 [SHIFTS, N]."""
    order = np.argsort(sizes, kind="stable")
    others = np.empty((SHIFTS, len(sizes)), np.int64)
    for shift in range(SHIFTS):
        others[shift, order] = np.roll(order, shift + 1)
    return others


def _stated(
    numbers: WrittenNumbers, labels: np.ndarray, unit: str, others: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """Return (unit, rows whose label stands in their text), or None where it is no more than chance."""
    best: tuple[str, np.ndarray] | None = None
    for name, factor in units_like(unit).items():
        values = np.abs(labels) / factor
        rows = _matches(numbers, values)
        chance = np.mean([len(_matches(numbers, values[other])) for other in others])
        if len(rows) > 3 + chance + 5 * np.sqrt(chance + 0.25) and (best is None or len(rows) > len(best[1])):
            best = name, rows
    return best


def _matches(numbers: WrittenNumbers, values: np.ndarray) -> np.ndarray:
    """Rows with a number that is the value rounded to the digits written."""
    with np.errstate(invalid="ignore"):
        off = np.abs(numbers.value - values[numbers.row])
    return np.unique(numbers.row[off <= numbers.half * 1.001])
